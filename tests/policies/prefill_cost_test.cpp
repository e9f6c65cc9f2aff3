#include "policies/prefill_cost.hpp"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace troupe::policies {
namespace {

const model_id small{"small"}, large{"large"};

/// 20 ms a step and 1.5 ms a row, as a model of 1 GB on two cores.
double real_seconds(prompt_work work) { return 0.02 + 0.0015 * work.computed; }

TEST(prefill_cost, there_is_an_estimate_before_anything_was_measured_that_grows_with_size) {
  const prefill_cost cost;
  const auto one = cost.seconds(small, 1e9, {100, 100});
  EXPECT_GT(one, 0);
  EXPECT_NEAR(cost.seconds(large, 4e9, {100, 100}), 4 * one, 1e-9);
  EXPECT_GT(cost.seconds(small, 1e9, {1000, 1000}), 5 * one);
  EXPECT_NEAR(cost.seconds(small, 1e9, {1, 1}), 1.0 / 8, 1e-9);
}

TEST(prefill_cost, learns_a_model_from_its_prompts_within_a_tenth) {
  prefill_cost cost;
  std::mt19937_64 random{7};
  for (int i = 0; i < 30; ++i) {
    const auto tokens =
        static_cast<uint32_t>(std::exp(std::uniform_real_distribution{1.0, 7.6}(random)));
    const auto noise = std::exp(std::normal_distribution{0.0, 0.03}(random));
    cost.learn(small, 1e9, {tokens, tokens}, real_seconds({tokens, tokens}) * noise);
  }
  for (const uint32_t tokens : {10u, 100u, 1000u, 2000u})
    EXPECT_NEAR(cost.seconds(small, 1e9, {tokens, tokens}) / real_seconds({tokens, tokens}), 1, 0.1)
        << tokens;
}

TEST(prefill_cost, what_is_found_computed_costs_nothing) {
  prefill_cost cost;
  for (uint32_t tokens = 8; tokens <= 2048; tokens *= 2)
    cost.learn(small, 1e9, {tokens, tokens}, real_seconds({tokens, tokens}));
  EXPECT_LT(cost.seconds(small, 1e9, {1000, 10}), 0.1);
  EXPECT_GT(cost.seconds(small, 1e9, {1000, 1000}), 1);
}

TEST(prefill_cost, a_model_that_was_never_seen_is_as_fast_as_the_others_for_its_size) {
  prefill_cost cost;
  for (int i = 0; i < 30; ++i)
    cost.learn(small, 1e9, {100, 100}, 0.17);
  EXPECT_NEAR(cost.seconds(large, 3e9, {100, 100}), 3 * 0.17, 0.06);
}

TEST(prefill_cost, what_is_found_computed_of_prompts_is_foreseen) {
  prefill_cost cost;
  EXPECT_EQ(cost.likely_work(small, 100).computed, 100u);
  cost.learn(small, 1e9, {200, 50}, 0.1);
  EXPECT_EQ(cost.likely_work(small, 100).computed, 25u);
  EXPECT_EQ(cost.likely_work(large, 100).computed, 100u) << "of that model alone";
  for (int i = 0; i < 20; ++i)
    cost.learn(small, 1e9, {200, 200}, 0.3);
  EXPECT_NEAR(cost.likely_work(small, 1000).computed, 1000, 5) << "it forgets";
  cost.learn(small, 1e9, {1, 7}, 0.1);
  EXPECT_EQ(cost.likely_work(small, 0).computed, 0u);
}

TEST(prefill_cost, nonsense_does_no_harm) {
  prefill_cost cost;
  cost.learn(small, -1, {0, 0}, 0);
  cost.learn(small, 0, {0, 5}, NAN);
  cost.learn(small, 1e30, {UINT32_MAX, UINT32_MAX}, 1e300);
  const auto seconds = cost.seconds(large, 1e9, {10, 20});
  EXPECT_TRUE(std::isfinite(seconds) && seconds >= 0);
}

} // namespace
} // namespace troupe::policies
