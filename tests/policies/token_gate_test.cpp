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

} // namespace
} // namespace troupe::policies
