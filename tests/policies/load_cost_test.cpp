#include "policies/load_cost.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

/// A node whose tiers have these rates, and some noise.
class machine {
public:
  explicit machine(uint64_t seed) : random_{seed} {}
  tier_bytes rates{1.2e9, 3.5e9, 10e9};

  load_demand some_load() {
    load_demand out;
    const auto bytes = std::uniform_real_distribution{0.5e9, 30e9}(random_);
    const auto held = std::array{0.0, 0.0, 0.25, 0.5, 1.0}[random_() % 5];
    out.wanted[random_() % 4 == 0 ? 0 : 1] = bytes * (1 - held);
    out.wanted[2] = bytes * held;
    for (size_t i = 0; i < load_tier_count; ++i)
      if (random_() % 3 == 0)
        out.queued[i] = std::uniform_real_distribution{0.0, 10e9}(random_);
    return out;
  }
  double run(const load_demand& load) {
    double slowest = 0;
    for (size_t i = 0; i < load_tier_count; ++i)
      if (load.wanted[i] > 0)
        slowest = std::max(slowest, (load.wanted[i] + load.queued[i]) / rates[i]);
    return 0.002 + slowest * std::exp(std::normal_distribution{0.0, 0.03}(random_));
  }

private:
  std::mt19937_64 random_;
};

double relative_error(double predicted, double real) { return std::abs(predicted / real - 1); }

TEST(load_cost, tiers_work_at_the_same_time_and_queues_come_first) {
  const load_cost cost{{1e9, 2e9, 10e9}, 0};
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 0}}), 2, 1e-9);
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 10e9}}), 2, 1e-9);
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 30e9}}), 3, 1e-9);
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 0}, .queued = {5e9, 2e9, 0}}), 3, 1e-9);
  EXPECT_NEAR(cost.seconds({}), 0, 1e-9);
}

TEST(load_cost, running_while_loading_leaves_one_layer_after_the_last_byte) {
  const load_cost cost{{1e9, 2e9, 10e9}, 0};
  const load_demand load{.wanted = {0, 4e9, 0}};
  EXPECT_NEAR(cost.first_token_seconds(load, 1.6, 16, false), 3.6, 1e-9);
  EXPECT_NEAR(cost.first_token_seconds(load, 1.6, 16, true), 2.1, 1e-9);
  EXPECT_NEAR(cost.first_token_seconds(load, 8, 16, true), 8, 1e-9);
}

TEST(load_cost, after_twenty_loads_95_of_100_predictions_are_within_a_tenth) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    machine real{seed};
    // The probe at the start was off by up to a half.
    load_cost cost{{0.8e9, 2.3e9, 14e9}};
    std::vector<double> errors;
    for (int i = 0; i < 220; ++i) {
      const auto load = real.some_load();
      const auto seconds = real.run(load);
      if (i >= 20)
        errors.push_back(relative_error(cost.seconds(load), seconds));
      cost.observe(load, seconds);
    }
    std::sort(errors.begin(), errors.end());
    EXPECT_LE(errors[errors.size() * 95 / 100], 0.10) << "seed " << seed;
  }
}

TEST(load_cost, a_disk_that_is_throttled_four_fold_is_understood_within_five_loads) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    machine real{seed};
    load_cost cost{real.rates};
    const auto from_disk = [&] {
      auto load = real.some_load();
      load.wanted = {0, std::max(load.wanted[1], 1e9), 0};
      return load;
    };
    const auto run = [&] {
      const auto load = from_disk();
      const auto seconds = real.run(load);
      const auto error = relative_error(cost.seconds(load), seconds);
      cost.observe(load, seconds);
      return error;
    };
    for (int i = 0; i < 30; ++i)
      run();
    for (const double factor : {0.25, 4.0}) {
      real.rates[1] *= factor;
      EXPECT_GT(run(), 0.5);
      for (int i = 0; i < 4; ++i)
        run();
      // Of single loads the noise is one part: judged by what was learned.
      EXPECT_LE(relative_error(cost.bytes_per_second(load_tier::disk), real.rates[1]), 0.10)
          << "seed " << seed;
    }
  }
}

TEST(load_cost, one_odd_load_does_not_upset_what_was_learned) {
  load_cost cost{{1e9, 2e9, 10e9}, 0};
  const load_demand load{.wanted = {0, 4e9, 0}};
  for (int i = 0; i < 20; ++i)
    cost.observe(load, 2);
  cost.observe(load, 8);
  EXPECT_NEAR(cost.seconds(load), 2, 0.8);
  for (int i = 0; i < 8; ++i)
    cost.observe(load, 2);
  EXPECT_NEAR(cost.seconds(load), 2, 0.2);
}

TEST(load_cost, nonsense_does_no_harm) {
  load_cost cost{{0, -1, 10e9}};
  cost.observe({}, 1);
  cost.observe({.wanted = {1e9, 0, 0}}, 0);
  cost.observe({.wanted = {1e9, 0, 0}}, -1);
  const auto seconds = cost.seconds({.wanted = {1e9, 1e9, 1e9}});
  EXPECT_TRUE(std::isfinite(seconds) && seconds > 0);
}

TEST(may_start_early, when_the_rest_of_the_weights_takes_no_longer_than_allowed) {
  EXPECT_TRUE(may_start_early(0, 0));
  EXPECT_FALSE(may_start_early(1, 0));
  EXPECT_TRUE(may_start_early(5e8, 1e9));
  EXPECT_FALSE(may_start_early(5.1e8, 1e9));
  EXPECT_TRUE(may_start_early(2e9, 1e9, 2));
}

} // namespace
} // namespace troupe::policies
