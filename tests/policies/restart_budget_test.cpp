#include "policies/restart_budget.hpp"

#include <gtest/gtest.h>

#include "policies/backoff.hpp"

namespace troupe::policies {
namespace {

using namespace std::chrono_literals;

TEST(restart_budget, doubles_the_pause_until_the_budget_is_spent) {
  restart_budget budget{{.crashes_max = 3, .window = 60s, .delay_first = 10ms, .delay_max = 30ms}};
  const instant start{};
  EXPECT_EQ(budget.on_crash(start), 10ms);
  EXPECT_EQ(budget.on_crash(start + 1s), 20ms);
  EXPECT_EQ(budget.on_crash(start + 2s), 30ms) << "capped";
  EXPECT_EQ(budget.on_crash(start + 3s), std::nullopt);
}

TEST(restart_budget, forgets_crashes_that_are_older_than_the_window) {
  restart_budget budget{{.crashes_max = 1, .window = 60s}};
  const instant start{};
  EXPECT_TRUE(budget.on_crash(start));
  EXPECT_FALSE(budget.on_crash(start + 59s));
  EXPECT_EQ(budget.on_crash(start + 60s), 10ms);
}

TEST(backoff, doubles_up_to_its_limit_and_starts_over_after_a_success) {
  backoff pauses{50ms, 150ms};
  EXPECT_EQ(pauses.next(), 50ms);
  EXPECT_EQ(pauses.next(), 100ms);
  EXPECT_EQ(pauses.next(), 150ms);
  EXPECT_EQ(pauses.next(), 150ms);
  pauses.reset();
  EXPECT_EQ(pauses.next(), 50ms);
}

} // namespace
} // namespace troupe::policies
