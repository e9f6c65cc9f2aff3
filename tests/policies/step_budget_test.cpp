#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "policies/preemption.hpp"
#include "policies/step_budget.hpp"

namespace troupe::policies {
namespace {

duration of_ms(double ms) {
  return std::chrono::duration_cast<duration>(std::chrono::duration<double, std::milli>(ms));
}

/// A device whose steps really cost this, with noise.
struct device {
  double fixed = 18, per_row = 1.7, per_pair = 0.0002, noise = 0.1;
  double exact_ms(step_shape step) const {
    return fixed + per_row * step.rows + per_pair * step.pairs;
  }
  duration run(step_shape step, std::mt19937_64& random) const {
    std::normal_distribution<double> error{1, noise};
    return of_ms(exact_ms(step) * std::max(0.5, error(random)));
  }
};

step_shape decoding(double sequences, double context) { return {sequences, sequences * context}; }
step_shape prompt(double rows, double context) { return {rows, rows * (context + (rows + 1) / 2)}; }

TEST(step_cost, predicts_steps_of_sizes_between_those_that_it_saw) {
  std::mt19937_64 random{1};
  for (int round = 0; round < 50; ++round) {
    const auto log_uniform = [&](double low, double high) {
      return std::exp(
          std::uniform_real_distribution<double>{std::log(low), std::log(high)}(random));
    };
    const device real{log_uniform(0.05, 200), log_uniform(0.001, 10), log_uniform(1e-7, 1e-3),
                      0.05};
    step_cost cost;
    for (int step = 0; step < 600; ++step) {
      const auto shape = step % 3 == 0
                             ? prompt(log_uniform(16, 512), log_uniform(1, 4000))
                             : decoding(std::floor(log_uniform(1, 64)), log_uniform(16, 4000));
      cost.learn(shape, real.run(shape, random));
    }
    for (int check = 0; check < 20; ++check) {
      const auto shape =
          decoding(std::floor(log_uniform(1, 64)), 1000) + prompt(log_uniform(16, 400), 500);
      EXPECT_NEAR(cost.ms(shape) / real.exact_ms(shape), 1, 0.3) << "round " << round;
    }
  }
}

TEST(step_cost, knows_large_steps_after_a_long_time_of_small_ones) {
  std::mt19937_64 random{2};
  const device real;
  step_cost cost;
  for (int step = 0; step < 30; ++step)
    for (const auto shape : {prompt(400, 100), decoding(4, 300)})
      cost.learn(shape, real.run(shape, random));
  for (int step = 0; step < 10'000; ++step)
    cost.learn(decoding(4, 600), real.run(decoding(4, 600), random));
  EXPECT_NEAR(cost.ms(prompt(400, 100)) / real.exact_ms(prompt(400, 100)), 1, 0.2);
}

TEST(step_cost, one_interrupted_step_changes_little) {
  step_cost cost;
  for (int step = 0; step < 50; ++step)
    for (const auto shape : {prompt(400, 0), decoding(4, 100)})
      cost.learn(shape, of_ms(10 + shape.rows));
  cost.learn(decoding(4, 100), of_ms(100'000));
  EXPECT_LT(cost.ms(decoding(4, 100)), 2 * 14.0);
}

TEST(step_cost, knows_proportions_before_it_has_seen_two_sizes) {
  step_cost cost;
  EXPECT_FALSE(cost.is_measured());
  EXPECT_EQ(cost.free_rows(), step_cost::usual_free_rows);
  cost.learn({10, 0}, of_ms(40));
  EXPECT_TRUE(cost.is_measured());
  EXPECT_NEAR(cost.ms({20, 0}), 60, 1e-6);
  cost.learn({0, 0}, of_ms(1));
  cost.learn({5, 0}, duration{0}); // a clock that stands still
  EXPECT_NEAR(cost.ms({20, 0}), 60, 1e-6);
}

TEST(step_cost, free_rows_follow_the_device) {
  for (const double free : {2.0, 30.0, 300.0}) {
    step_cost cost;
    for (int step = 0; step < 20; ++step)
      for (const double rows : {1.0, 8.0, 64.0, 500.0})
        cost.learn({rows, 0}, of_ms(0.1 * (free + rows)));
    EXPECT_NEAR(cost.free_rows(), free, 0.05 * free);
  }
}

TEST(prompt_rows, take_the_whole_step_where_nobody_decodes) {
  EXPECT_EQ(prompt_rows({}, {}, {}, {}, 0, 512), 512u);
  EXPECT_EQ(prompt_rows({.target = of_ms(1)}, {}, {}, {}, 0, 512), 512u);
}

TEST(prompt_rows, take_as_long_again_as_decoding_at_most) {
  step_cost cost;
  for (const double rows : {1.0, 8.0, 64.0, 500.0})
    cost.learn({rows, 0}, of_ms(100 + rows));
  const auto rows = prompt_rows({.patience = 2}, cost, {8, 0}, {8, 0}, 0, 512);
  EXPECT_NEAR(rows, 108, 2);
  EXPECT_EQ(prompt_rows({.patience = 2}, cost, {8, 0}, {8, 0}, 0, 50), 50u);
}

TEST(prompt_rows, may_take_longer_where_they_are_urgent) {
  step_cost cost;
  for (const double rows : {1.0, 8.0, 64.0, 500.0})
    cost.learn({rows, 0}, of_ms(100 + rows));
  const step_budget_config config{.patience = 2, .haste = 1.5};
  EXPECT_NEAR(prompt_rows(config, cost, {8, 0}, {8, 0}, 0, 512, true), 3 * 108 - 108, 2);
  EXPECT_EQ(prompt_rows(config, cost, {8, 0}, {8, 0}, 0, 50, true), 50u);
  EXPECT_EQ(prompt_rows({.target = of_ms(1)}, cost, {8, 0}, {8, 0}, 0, 512, true), 64u);
}

// Two decode, thirty prompts wait: the pace is that of all 32.
TEST(prompt_rows, are_measured_by_the_step_that_all_will_share) {
  step_cost cost;
  for (const double rows : {1.0, 8.0, 64.0, 500.0})
    cost.learn({rows, 0}, of_ms(10 + rows));
  EXPECT_NEAR(prompt_rows({.patience = 2}, cost, {2, 0}, {32, 0}, 0, 512), 2 * 42 - 12, 2);
}

TEST(prompt_rows, are_never_fewer_than_the_least_nor_more_than_the_step_holds) {
  step_cost cost;
  cost.learn({8, 0}, of_ms(500));
  EXPECT_EQ(prompt_rows({.target = of_ms(1)}, cost, {8, 0}, {8, 0}, 0, 512), 16u);
  EXPECT_EQ(prompt_rows({.target = of_ms(1)}, cost, {8, 0}, {8, 0}, 0, 7), 7u);
  EXPECT_EQ(prompt_rows({.target = of_ms(1)}, cost, {8, 0}, {8, 0}, 0, 0), 0u);
  EXPECT_EQ(prompt_rows({.target = of_ms(1e7)}, cost, {8, 0}, {8, 0}, 0, 512), 512u);
}

TEST(prompt_rows, steps_end_in_time_on_devices_of_any_speed) {
  std::mt19937_64 random{3};
  for (const double speed : {0.05, 1.0, 20.0}) {
    for (const double factor : {1.5, 4.0}) {
      const device real{18 * speed, 1.7 * speed, 0.0005 * speed, 0.05};
      const double alone = real.exact_ms(decoding(8, 2000));
      const step_budget_config config{.target = of_ms(factor * alone)};
      step_cost cost;
      int late = 0;
      uint64_t computed = 0;
      constexpr int steps = 2000;
      for (int step = 0; step < steps; ++step) {
        const auto decodes = decoding(8, 500 + step % 1500);
        const uint64_t context = computed % 3000;
        const auto rows = prompt_rows(config, cost, decodes, decodes, context, 512);
        const auto shape = decodes + prompt(rows, static_cast<double>(context));
        if (step > 20 && rows > config.prompt_rows_min &&
            real.exact_ms(shape) > 1.2 * factor * alone)
          ++late;
        cost.learn(shape, real.run(shape, random));
        if (step % 10 == 0) // steps without a prompt come between
          cost.learn(decodes, real.run(decodes, random));
        computed += rows;
      }
      EXPECT_LT(late, steps / 50) << speed << " " << factor;
      // Of the time that is left for prompts, most is used.
      const double left = factor * alone - real.exact_ms(decoding(8, 1250));
      const double most = left / (real.per_row + real.per_pair * 1500);
      EXPECT_GT(static_cast<double>(computed) / steps, 0.7 * std::min(most, 512.0));
    }
  }
}

TEST(swapping_pays, where_copies_are_faster_than_rows) {
  step_cost cost;
  for (const double rows : {1.0, 8.0, 64.0, 500.0})
    cost.learn({rows, 0}, of_ms(100 + rows));
  copy_speed copying;
  EXPECT_TRUE(swapping_pays({100, 0, 1 << 20}, {}, copying));
  for (int i = 0; i < 50; ++i)
    copying.learn(1'000'000, of_ms(1));
  EXPECT_NEAR(copying.ms(5'000'000), 5, 0.01);
  EXPECT_TRUE(swapping_pays({100, 0, 40'000'000}, cost, copying));  // 80 ms against 100
  EXPECT_FALSE(swapping_pays({100, 0, 60'000'000}, cost, copying)); // 120
  EXPECT_FALSE(swapping_pays({0, 0, 1}, cost, copying));
}

} // namespace
} // namespace troupe::policies
