#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "engine/errors.hpp"
#include "engine/sampler/philox.hpp"
#include "engine/sampler/sampler.hpp"

namespace troupe::engine {
namespace {

/// Known answers published with the generator (Random123, kat_vectors).
TEST(philox, gives_the_published_answers) {
  using words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::vector<float> random_logits(size_t size, uint64_t seed) {
  std::mt19937_64 random{seed};
  std::normal_distribution<float> normal{0, 2.5f};
  std::vector<float> out(size);
  for (auto& one : out)
    one = normal(random);
  return out;
}

/// The same rules written plainly: full sorts, doubles. Returns each token's probability.
std::vector<double> brute_force(const std::vector<float>& raw, const sampling_params& p,
                                const std::vector<token_id>& tokens, size_t prompt_size) {
  std::vector<double> logit(raw.begin(), raw.end());
  for (const auto& [token, bias] : p.logit_bias)
    logit[token] += bias;
  const std::set<token_id> all(tokens.begin(), tokens.end());
  for (const auto token : all)
    logit[token] = logit[token] > 0 ? logit[token] / p.repetition_penalty
                                    : logit[token] * p.repetition_penalty;
  std::map<token_id, int> generated;
  for (size_t i = prompt_size; i < tokens.size(); ++i)
    ++generated[tokens[i]];
  for (const auto& [token, count] : generated)
    logit[token] -= p.frequency_penalty * count + p.presence_penalty;
  std::vector<size_t> order(logit.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return logit[a] != logit[b] ? logit[a] > logit[b] : a < b; });
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < order.size())
    order.resize(p.top_k);
  const double highest = logit[order[0]];
  const auto weight = [&](size_t i) { return std::exp((logit[i] - highest) / p.temperature); };
  double total = 0, sum = 0;
  for (const auto i : order)
    total += weight(i);
  if (p.top_p < 1)
    for (size_t n = 0; n < order.size(); ++n)
      if ((sum += weight(order[n])) >= p.top_p * total)
        order.resize(n + 1);
  std::vector<double> out(logit.size());
  total = 0;
  for (const auto i : order)
    if (weight(i) >= p.min_p)
      total += out[i] = weight(i);
  for (auto& one : out)
    one /= total;
  return out;
}

sampling_params params_of(std::mt19937_64& random) {
  const auto maybe = [&](float value) { return random() % 2 ? value : 0.0f; };
  sampling_params out;
  out.temperature = 0.3f + static_cast<float>(random() % 150) / 100;
  out.top_k = random() % 2 ? static_cast<int32_t>(1 + random() % 40) : 0;
  out.top_p = random() % 2 ? 0.05f + static_cast<float>(random() % 90) / 100 : 1.0f;
  out.min_p = maybe(0.05f);
  out.presence_penalty = maybe(0.7f);
  out.frequency_penalty = maybe(-0.4f);
  out.repetition_penalty = random() % 2 ? 1.3f : 1.0f;
  if (random() % 2)
    out.logit_bias = {{3, 2.5f}, {5, -100.0f}};
  return out;
}

TEST(sampler, draws_what_a_brute_force_distribution_allows_and_as_often) {
  std::mt19937_64 random{5};
  sampler chooser;
  for (int round = 0; round < 60; ++round) {
    const auto raw = random_logits(64, random());
    auto params = params_of(random);
    std::vector<token_id> tokens(12);
    for (auto& one : tokens)
      one = static_cast<token_id>(random() % 64);
    const auto expected = brute_force(raw, params, tokens, 5);
    constexpr int draws = 2000;
    std::vector<int> counts(raw.size());
    for (int i = 0; i < draws; ++i) {
      params.seed = random();
      auto logits = raw;
      const auto got = chooser.sample(logits, {params, tokens, 5, {}});
      ASSERT_TRUE(got);
      ++counts[got->token];
    }
    double chi_square = 0;
    int cells = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      const double mean = expected[i] * draws;
      if (mean == 0) {
        EXPECT_EQ(counts[i], 0) << "round " << round << ", token " << i;
      }
      if (mean < 5)
        continue;
      chi_square += (counts[i] - mean) * (counts[i] - mean) / mean;
      ++cells;
    }
    // Five standard deviations of the chi-square distribution: fixed seeds, so never flaky.
    EXPECT_LE(chi_square, cells + 5 * std::sqrt(2.0 * cells)) << "round " << round;
  }
}

TEST(sampler, logprobs_are_those_of_the_raw_logits) {
  auto logits = random_logits(500, 3);
  const auto raw = logits;
  sampling_params params;
  params.temperature = 0;
  params.top_logprobs = 4;
  params.logit_bias = {{17, 90.0f}};
  sampler chooser;
  const std::vector<token_id> tokens{1};
  const auto got = chooser.sample(logits, {params, tokens, 1, {}});
  ASSERT_TRUE(got);
  EXPECT_EQ(got->token, 17);
  double total = 0;
  for (const float one : raw)
    total += std::exp(static_cast<double>(one));
  EXPECT_NEAR(got->logprob, raw[17] - std::log(total), 1e-5);
  ASSERT_EQ(got->top.size(), 4u);
  auto sorted = raw;
  std::sort(sorted.rbegin(), sorted.rend());
  for (size_t i = 0; i < 4; ++i)
    EXPECT_NEAR(got->top[i].logprob, sorted[i] - std::log(total), 1e-5);
}

TEST(sampler, end_tokens_wait_for_min_tokens) {
  sampling_params params;
  params.temperature = 0;
  params.min_tokens = 2;
  sampler chooser;
  const std::vector<token_id> end{0};
  for (const size_t generated : {0u, 1u, 2u}) {
    std::vector<float> logits{9, 1, 2};
    const std::vector<token_id> tokens(1 + generated, 1);
    EXPECT_EQ(chooser.sample(logits, {params, tokens, 1, end})->token, generated < 2 ? 2 : 0);
  }
}

TEST(sampler, a_large_vocabulary_with_top_p_needs_no_full_sort_to_be_right) {
  std::mt19937_64 random{11};
  sampler chooser;
  for (int round = 0; round < 20; ++round) {
    const auto raw = random_logits(150000, random());
    sampling_params params;
    params.top_p = 0.2f + 0.03f * static_cast<float>(round);
    params.seed = random();
    const std::vector<token_id> tokens{1};
    auto logits = raw;
    const auto got = chooser.sample(logits, {params, tokens, 1, {}});
    ASSERT_TRUE(got);
    EXPECT_GT(brute_force(raw, params, tokens, 1)[got->token], 0);
  }
}

} // namespace
} // namespace troupe::engine
