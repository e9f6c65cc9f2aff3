#include "policies/load_cost.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

/// A node whose tiers have these rates, some noise, and an odd load now and then.
class machine {
public:
  explicit machine(uint64_t seed) : random_{seed} {}
  tier_bytes rates{1.2e9, 3.5e9, 10e9, 2.1e9, 9e9};
  double overlap = 0; ///< of fetching with reading, and of both with binding
  double odd_share = 0;

  load_demand some_load() {
    load_demand out;
    const auto bytes = std::uniform_real_distribution{0.5e9, 30e9}(random_);
    const auto held = std::array{0.0, 0.0, 0.25, 0.5, 1.0}[random_() % 5];
    switch (random_() % 4) {
    case 0: // fetched: it lies in the page cache then
      out.wanted[0] = out.wanted[4] = bytes;
      out.source = random_() % 2 == 0 ? "near" : "far";
      break;
    case 1:
      out.wanted[3] = bytes;
      break;
    default:
      out.wanted[1] = bytes * (1 - held);
      out.wanted[2] = bytes * held;
    }
    for (size_t i = 0; i < load_tier_count; ++i)
      if (random_() % 3 == 0)
        out.queued[i] = std::uniform_real_distribution{0.0, 10e9}(random_);
    if (random_() % 3 == 0)
      out.queue_seconds = std::uniform_real_distribution{0.0, 5.0}(random_);
    out.bind_bytes = bytes;
    out.binding = std::array{"plain", "converted"}[random_() % 2];
    return out;
  }
  load_phases run(const load_demand& load) {
    load_phases out;
    const double odd = std::uniform_real_distribution{}(random_) < odd_share ? 6 : 1;
    out.queued = load.queue_seconds;
    if (load.wanted[0] > 0)
      out.fetch = (load.wanted[0] + load.queued[0]) / rates[0] * noise() *
                  (load.source == "far" ? 7 : 1) * odd;
    for (size_t i = 1; i < load_tier_count; ++i)
      if (load.wanted[i] > 0)
        out.read = std::max(out.read, (load.wanted[i] + load.queued[i]) / rates[i]);
    out.read = 0.002 + out.read * noise() * odd;
    out.bind = load.bind_bytes / (load.binding == "converted" ? 1e9 : 20e9) * noise();
    const auto join = [&](double a, double b) {
      return std::max(a, b) + (1 - overlap) * std::min(a, b);
    };
    out.bytes = join(out.fetch, out.read);
    out.total = out.queued + join(out.bytes, out.bind);
    return out;
  }

private:
  double noise() { return std::exp(std::normal_distribution{0.0, 0.03}(random_)); }
  std::mt19937_64 random_;
};

double relative_error(double predicted, double real) { return std::abs(predicted / real - 1); }

/// The 95th percentile of the errors of 200 predictions, after 20 loads.
double error_p95(machine real, load_cost cost) {
  std::vector<double> errors;
  for (int i = 0; i < 220; ++i) {
    const auto load = real.some_load();
    const auto took = real.run(load);
    if (i >= 20)
      errors.push_back(relative_error(cost.seconds(load), took.total));
    cost.observe(load, took);
  }
  std::sort(errors.begin(), errors.end());
  return errors[errors.size() * 95 / 100];
}

TEST(load_cost, tiers_of_the_machine_work_at_the_same_time_and_queues_come_first) {
  const load_cost cost{{1e9, 2e9, 10e9}, 0};
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 0}}), 2, 1e-9);
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 10e9}}), 2, 1e-9);
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 30e9}}), 3, 1e-9);
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 0}, .queued = {5e9, 2e9, 0}}), 3, 1e-9);
  EXPECT_NEAR(cost.seconds({.wanted = {0, 4e9, 0}, .queue_seconds = 1.5}), 3.5, 1e-9);
  EXPECT_NEAR(cost.seconds({}), 0, 1e-9);
}

TEST(load_cost, fetching_and_binding_come_one_after_the_other_until_they_are_seen_to_overlap) {
  load_cost cost{{1e9, 2e9, 10e9}, 0};
  const load_demand load{.wanted = {3e9, 4e9, 0}, .bind_bytes = 4e9};
  const auto bind = 4e9 / unmeasured_bind_rate;
  EXPECT_NEAR(cost.seconds(load), 3 + 2 + bind, 1e-9);
  cost.observe(load, {.fetch = 3, .read = 2, .bytes = 3, .bind = bind, .total = 3});
  EXPECT_NEAR(cost.seconds(load), 3, 1e-9);
}

TEST(load_cost, how_far_binding_overlaps_is_learned_for_each_tier) {
  load_cost cost{{1e9, 1e9, 10e9}, 0};
  const load_demand disk{.wanted = {0, 1e9, 0}, .bind_bytes = 1e9};
  const load_demand pool{.wanted = {0, 0, 1e9}, .bind_bytes = 1e9};
  for (int i = 0; i < 3; ++i) {
    cost.observe(disk, {.read = 1, .bytes = 1, .bind = 0.2, .total = 1});
    cost.observe(pool, {.read = 0.1, .bytes = 0.1, .bind = 0.2, .total = 0.3});
  }
  EXPECT_NEAR(cost.seconds(disk), 1, 1e-6);
  EXPECT_NEAR(cost.seconds(pool), 0.3, 1e-6);
  // What no load has shown yet is as the loads before it were, on the whole.
  const load_demand cached{.wanted = {0, 0, 0, 0, 1e9}, .bind_bytes = 1e9};
  const auto parts = cost.predict(cached);
  EXPECT_GT(parts.total, std::max(parts.bytes, parts.bind));
  EXPECT_LT(parts.total, parts.bytes + parts.bind);
}

TEST(load_cost, a_probe_counts_until_a_load_has_shown_the_rate) {
  load_cost cost;
  cost.probe(load_tier::disk, 3e9);
  EXPECT_NEAR(cost.bytes_per_second(load_tier::disk), 3e9, 1);
  cost.observe({.wanted = {0, 4e9, 0}}, {.read = 2.002});
  EXPECT_NEAR(cost.bytes_per_second(load_tier::disk), 2e9, 1e6);
  cost.probe(load_tier::disk, 3e9);
  EXPECT_NEAR(cost.bytes_per_second(load_tier::disk), 2e9, 1e6);
}

TEST(load_cost, small_loads_teach_the_overhead_and_leave_the_rates_alone) {
  load_cost cost{{1e9, 2e9, 10e9}, 0.002};
  for (int i = 0; i < 40; ++i)
    cost.observe({.wanted = {0, 1e6, 0}}, {.read = 0.0105});
  EXPECT_NEAR(cost.seconds({.wanted = {0, 1e6, 0}}), 0.0105, 0.0005);
  EXPECT_NEAR(cost.bytes_per_second(load_tier::disk), 2e9, 1);
}

TEST(load_cost, running_while_loading_leaves_one_layer_after_the_last_byte) {
  const load_phases load{.queued = 1, .bytes = 2, .bind = 0.2, .total = 3};
  EXPECT_NEAR(prefill_left(load, 0.4, 16), 0.025, 1e-9);
  EXPECT_NEAR(prefill_left(load, 1.6, 16), 1.1, 1e-9) << "it begins half a second before the end";
  EXPECT_NEAR(prefill_left(load, 1.6, 16, load.total), 0.1, 1e-9);
  const load_phases bound{.bytes = 0.2, .bind = 0.25, .total = 0.25};
  EXPECT_NEAR(prefill_left(bound, 1.6, 16), 1.6, 1e-9) << "the processors were busy";
}

TEST(load_cost, after_twenty_loads_95_of_100_predictions_are_within_a_tenth) {
  for (uint64_t seed = 1; seed <= 20; ++seed)
    for (const double overlap : {0.0, 0.6, 1.0}) {
      machine real{seed};
      real.overlap = overlap;
      // The probe at the start was off by up to a half.
      EXPECT_LE(error_p95(real, load_cost{{0.8e9, 2.3e9, 14e9}}), 0.10)
          << "seed " << seed << ", overlap " << overlap;
    }
}

TEST(load_cost, odd_loads_cost_the_others_little_of_their_precision) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    machine real{seed};
    load_cost cost;
    std::vector<double> errors;
    for (int i = 0; i < 400; ++i) {
      real.odd_share = i % 25 == 24 ? 1 : 0;
      const auto load = real.some_load();
      const auto took = real.run(load);
      if (i >= 20 && real.odd_share == 0)
        errors.push_back(relative_error(cost.seconds(load), took.total));
      cost.observe(load, took);
    }
    std::sort(errors.begin(), errors.end());
    EXPECT_LE(errors[errors.size() * 95 / 100], 0.12) << "seed " << seed;
  }
}

TEST(load_cost, a_disk_that_is_throttled_four_fold_is_understood_within_five_loads) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    machine real{seed};
    load_cost cost{real.rates};
    const auto from_disk = [&] {
      auto load = real.some_load();
      load.wanted = {0, std::max(load.wanted[1], 1e9), 0};
      load.bind_bytes = 0;
      return load;
    };
    const auto run = [&] {
      const auto load = from_disk();
      const auto took = real.run(load);
      const auto error = relative_error(cost.predict(load).read, took.read);
      cost.observe(load, took);
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
    cost.observe(load, {.read = 2});
  cost.observe(load, {.read = 16});
  EXPECT_NEAR(cost.seconds(load), 2, 0.1);
  cost.observe(load, {.read = 2});
  EXPECT_NEAR(cost.seconds(load), 2, 0.1);
}

TEST(load_cost, nonsense_does_no_harm) {
  load_cost cost{{0, -1, 10e9}};
  cost.observe({}, {.fetch = 1, .read = 1, .bytes = 1, .bind = 1, .total = 1});
  cost.observe({.wanted = {1e9, 1e9, 0}}, {});
  cost.observe({.wanted = {1e9, 1e9, 0}}, {.fetch = -1, .read = -1, .bytes = -1, .total = -1});
  for (int i = 0; i < 5000; ++i) {
    const auto name = std::to_string(i);
    cost.observe({.wanted = {1e9}, .bind_bytes = 1e9, .source = name, .binding = name},
                 {.fetch = 1, .bind = 1});
  }
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
