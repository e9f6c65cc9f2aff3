#include "policies/eviction.hpp"

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

constexpr auto half_life = heat_half_life_seconds;

TEST(eviction, heat_halves_with_every_half_life_and_grows_by_one_with_every_use) {
  EXPECT_DOUBLE_EQ(warmed(0, 0), 1);
  EXPECT_DOUBLE_EQ(warmed(1, 0), 2);
  EXPECT_DOUBLE_EQ(warmed(4, half_life), 3);
  EXPECT_DOUBLE_EQ(warmed(4, 3 * half_life), 1.5);
  EXPECT_DOUBLE_EQ(warmed(4, -5), 5) << "a clock that stood still";
}

TEST(eviction, recency_ignores_all_but_the_last_use) {
  EXPECT_GT(recency_worth({.reload_seconds = 1, .heat = 1, .idle_seconds = 5}),
            recency_worth({.reload_seconds = 9, .heat = 9, .idle_seconds = 6}));
}

TEST(eviction, reuse_weighs_cost_popularity_and_age_against_each_other) {
  const cached_item item{.reload_seconds = 2, .heat = 3, .idle_seconds = 600};
  auto dearer = item, hotter = item, older = item;
  dearer.reload_seconds = 4, hotter.heat = 6, older.idle_seconds = 1200;
  EXPECT_DOUBLE_EQ(reuse_worth(dearer), 2 * reuse_worth(item));
  EXPECT_GT(reuse_worth(hotter), reuse_worth(item));
  EXPECT_LT(reuse_worth(older), reuse_worth(item));
}

TEST(eviction, heat_of_a_steady_rate_predicts_that_rate) {
  double heat = 0;
  for (int i = 0; i < 2000; ++i)
    heat = warmed(heat, 100);
  const cached_item steady{.reload_seconds = 1, .heat = heat, .idle_seconds = 0};
  EXPECT_NEAR(reuse_worth(steady) - 1 / burst_pause_seconds, 1 / 100.0, 1e-4);
}

TEST(eviction, a_new_burst_stands_against_an_old_favourite_but_not_for_ever) {
  const cached_item favourite{.reload_seconds = 1, .heat = 40, .idle_seconds = 1800};
  EXPECT_LT(reuse_worth(favourite),
            reuse_worth({.reload_seconds = 1, .heat = 1, .idle_seconds = 30}));
  EXPECT_GT(reuse_worth(favourite),
            reuse_worth({.reload_seconds = 1, .heat = 1, .idle_seconds = 1800}));
}

} // namespace
} // namespace troupe::policies
