#include "policies/token_gate.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

TEST(token_gate, accepts_only_the_next_offset_of_the_current_epoch) {
  token_gate gate;
  const auto first = gate.reopen();
  EXPECT_TRUE(gate.accepts(first, 0));
  EXPECT_FALSE(gate.accepts(first, 1));
  gate.advance();
  EXPECT_FALSE(gate.accepts(first, 0)) << "a repeated token";
  EXPECT_TRUE(gate.accepts(first, 1));
  const auto second = gate.reopen();
  EXPECT_FALSE(gate.accepts(first, 1)) << "a worker that was given up";
  EXPECT_TRUE(gate.accepts(second, 1)) << "goes on where it was";
}

TEST(token_gate, gives_up_after_many_dispatches_without_a_token) {
  token_gate gate;
  for (uint32_t i = 0; i < token_gate::fruitless_max; ++i) {
    EXPECT_FALSE(gate.hopeless());
    gate.reopen();
  }
  EXPECT_TRUE(gate.hopeless());
  gate.advance();
  EXPECT_FALSE(gate.hopeless()) << "a token shows that the request can run";
}

} // namespace
} // namespace troupe::policies
