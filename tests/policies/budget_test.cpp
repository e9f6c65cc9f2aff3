#include "policies/budget.hpp"

#include <random>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

using namespace std::chrono;
using kind = budget_period::kind;

constexpr sys_days day_of(int year, unsigned month, unsigned d) {
  return std::chrono::year{year} / month / d;
}
budget_terms terms(double limit, kind what, uint32_t span = 0) {
  return {.limit = limit, .soft = 0.8, .period = {what, span}, .prices = {}};
}

TEST(cost, counts_a_cached_token_once) {
  const token_prices prices{.input = 1, .cached = 0.1, .output = 4};
  EXPECT_DOUBLE_EQ(cost_of(prices, 100, 30, 10), 70 + 3 + 40);
  EXPECT_DOUBLE_EQ(cost_of(prices, 10, 30, 0), 1) << "no more can be cached than there is";
}

TEST(budget, calendar_periods_begin_in_utc) {
  const wall_time now = day_of(2024, 2, 29) + 13h + 5min; // a Thursday
  const auto check = [&](kind what, wall_time from, wall_time to) {
    budget one{terms(10, what)};
    EXPECT_EQ(one.counts_from(now), from);
    EXPECT_EQ(one.next_relief(now), to);
    one.charge(10, from);
    EXPECT_TRUE(one.over(now));
    EXPECT_TRUE(one.over(to - 1s));
    EXPECT_FALSE(one.over(to));
    EXPECT_EQ(one.spent(to), 0);
  };
  check(kind::day, day_of(2024, 2, 29), day_of(2024, 3, 1));
  check(kind::week, day_of(2024, 2, 26), day_of(2024, 3, 4));
  check(kind::month, day_of(2024, 2, 1), day_of(2024, 3, 1));
  budget before{terms(10, kind::month)};
  before.charge(10, wall_time{day_of(2024, 2, 1)} - 1s);
  EXPECT_EQ(before.spent(now), 0);
}

TEST(budget, warns_once_in_a_period) {
  budget one{terms(100, kind::day)};
  const wall_time noon = day_of(2024, 5, 1) + 12h;
  one.charge(79, noon);
  EXPECT_FALSE(one.warn(noon));
  one.charge(1, noon);
  EXPECT_TRUE(one.warn(noon));
  EXPECT_FALSE(one.warn(noon + 1h));
  one.charge(80, noon + 24h);
  EXPECT_TRUE(one.warn(noon + 24h));
}

TEST(budget, a_clock_that_goes_back_gives_nothing_back) {
  budget one{terms(10, kind::hours, 5)};
  const wall_time now = day_of(2024, 5, 1) + 12h;
  one.charge(6, now);
  one.charge(4, now - 2h);
  EXPECT_TRUE(one.over(now - 3h));
  one.charge(1, now - 10h);
  EXPECT_EQ(one.spent(now), 10) << "that hour counts no more";
}

TEST(budget, a_sliding_period_holds_what_a_sum_over_all_hours_says) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random{seed};
    const uint32_t span = 1 + random() % 40;
    budget one{terms(50, kind::hours, span)};
    std::vector<std::pair<int64_t, double>> all;
    int64_t minutes_now = 28'000'000;
    for (int i = 0; i < 300; ++i) {
      minutes_now += static_cast<int64_t>(random() % 90);
      const wall_time now{minutes{minutes_now}};
      const auto cost = static_cast<double>(random() % 4);
      one.charge(cost, now);
      all.emplace_back(minutes_now / 60, cost);
      double expected = 0;
      for (const auto& [hour, x] : all)
        expected += hour > minutes_now / 60 - span ? x : 0;
      ASSERT_DOUBLE_EQ(one.spent(now), expected) << "seed " << seed << " step " << i;
      ASSERT_GT(one.next_relief(now), now);
    }
  }
}

} // namespace
} // namespace troupe::policies
