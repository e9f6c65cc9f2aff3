#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "engine/errors.hpp"
#include "engine/sampler/row_chooser.hpp"
#include "tests/engine/device/devices.hpp"

namespace troupe::engine {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// One row and all that it is chosen by.
struct wanted_row {
  std::vector<float> logits;
  sampling_params params;
  std::vector<token_id> tokens, guesses;
  size_t prompt_size = 1;
};

/// The device's choice beside the sampler's, which is the oracle: every bit has to be the same.
class choices : public testing::Test {
protected:
  void SetUp() override {
    device = test::cuda_or_null();
    if (!device)
      GTEST_SKIP() << "no GPU";
  }

  void expect_equal(const std::vector<wanted_row>& rows, int64_t width, int64_t vocabulary) {
    const row_chooser::extent extent{width, vocabulary, static_cast<int64_t>(rows.size())};
    row_chooser chooser{*device, extent};
    std::vector<float> all;
    for (const auto& one : rows) {
      chooser.add({one.params, one.tokens, one.guesses, one.prompt_size, end_tokens});
      all.insert(all.end(), one.logits.begin(), one.logits.end());
    }
    const auto memory = device->allocate(all.size() * sizeof(float));
    const auto room = device->allocate(row_chooser::room_bytes(device.get(), extent));
    ASSERT_TRUE(memory && room);
    device->copy_to_device(memory->data(), all.data(), all.size() * sizeof(float));
    ASSERT_FALSE(chooser.choose(memory->as<float>(), room->as<std::byte>()));
    for (size_t i = 0; i < rows.size(); ++i)
      expect_equal(rows[i], vocabulary, chooser, i);
  }

  void expect_equal(const wanted_row& one, int64_t vocabulary, row_chooser& chooser, size_t i) {
    auto tokens = one.tokens;
    tokens.insert(tokens.end(), one.guesses.begin(), one.guesses.end());
    const sampling_context context{one.params, tokens, one.prompt_size, end_tokens};
    auto logits = one.logits;
    logits.resize(static_cast<size_t>(vocabulary), -infinity);
    sampler oracle;
    const auto want = oracle.sample(logits, context);
    const auto got = chooser.take(i, context);
    ASSERT_EQ(static_cast<bool>(got), static_cast<bool>(want)) << "row " << i;
    if (!want) {
      EXPECT_EQ(got.error(), want.error());
      return;
    }
    EXPECT_EQ(got->token, want->token) << "row " << i;
    EXPECT_EQ(got->logprob, want->logprob) << "row " << i;
    ASSERT_EQ(got->top.size(), want->top.size()) << "row " << i;
    for (size_t j = 0; j < want->top.size(); ++j) {
      EXPECT_EQ(got->top[j].token, want->top[j].token) << "row " << i << ", top " << j;
      EXPECT_EQ(got->top[j].logprob, want->top[j].logprob) << "row " << i << ", top " << j;
    }
  }

  /// Logits like a model's, or with many equal ones, or mostly or wholly suppressed.
  std::vector<float> logits_of(int64_t width) {
    std::normal_distribution<float> normal{0, 0.2f + static_cast<float>(random() % 40) / 10};
    std::vector<float> out(static_cast<size_t>(width));
    for (auto& one : out)
      one = normal(random);
    switch (random() % 6) {
    case 0: // ties, zeros of both signs among them
      for (auto& one : out)
        one = std::round(one * 2) / 2;
      break;
    case 1:
      for (auto& one : out)
        one = random() % 8 == 0 ? one : -infinity;
      out[random() % out.size()] = 1;
      break;
    case 2:
      std::fill(out.begin(), out.end(), -3.0f);
      break;
    case 3: // one that has nearly all
      out[random() % out.size()] += 30;
      break;
    default:
      break;
    }
    return out;
  }

  sampling_params params_of(int64_t vocabulary) {
    const auto one_in = [&](uint64_t n) { return random() % n == 0; };
    const auto token = [&] { return static_cast<token_id>(random() % vocabulary); };
    sampling_params out;
    out.temperature = one_in(4) ? 0.0f : 0.05f + static_cast<float>(random() % 200) / 100;
    out.top_k = one_in(2) ? static_cast<int32_t>(random() % (one_in(2) ? 50 : 3000)) : -1;
    out.top_p = one_in(2) ? 0.001f + static_cast<float>(random() % 999) / 1000 : 1.0f;
    out.min_p = one_in(3) ? static_cast<float>(random() % 100) / 300 : 0.0f;
    out.presence_penalty = one_in(3) ? 0.7f : 0.0f;
    out.frequency_penalty = one_in(3) ? -0.4f : 0.0f;
    out.repetition_penalty = one_in(3) ? 1.3f : 1.0f;
    out.top_logprobs = one_in(3) ? static_cast<int32_t>(random() % 21) : -1;
    out.seed = random();
    out.min_tokens = one_in(4) ? 6 : 0;
    if (one_in(3))
      for (int i = 0; i < 5; ++i) // now and then a token twice: the host's
        out.logit_bias.emplace_back(token(), static_cast<float>(random() % 2000) / 10 - 100);
    if (one_in(4))
      out.stop_token_ids = {token()};
    return out;
  }

  wanted_row row_of(int64_t width, int64_t vocabulary) {
    wanted_row out;
    out.logits = logits_of(width);
    out.params = params_of(vocabulary);
    out.tokens.resize(1 + random() % 40);
    out.guesses.resize(random() % 5);
    for (auto* ids : {&out.tokens, &out.guesses})
      for (auto& one : *ids)
        one = static_cast<token_id>(random() % static_cast<uint64_t>(std::min<int64_t>(
                                                   vocabulary, random() % 2 ? 7 : vocabulary)));
    out.prompt_size = 1 + random() % out.tokens.size();
    return out;
  }

  std::unique_ptr<gpu::device> device;
  std::vector<token_id> end_tokens{0};
  std::mt19937_64 random{20};
};

TEST_F(choices, are_the_samplers_for_any_parameters_and_vocabulary) {
  for (const int64_t vocabulary : {1, 2, 3, 31, 64, 1000, 1024, 1025, 4096, 4097, 32000}) {
    SCOPED_TRACE(vocabulary);
    for (int round = 0; round < (vocabulary > 2000 ? 3 : 12); ++round) {
      std::vector<wanted_row> rows;
      for (uint64_t i = 0, count = 1 + random() % 6; i < count; ++i)
        rows.push_back(row_of(vocabulary, vocabulary));
      expect_equal(rows, vocabulary, vocabulary);
    }
  }
}

TEST_F(choices, are_the_samplers_for_the_largest_vocabularies) {
  for (const int64_t vocabulary : {128256, 151936, 262144}) {
    SCOPED_TRACE(vocabulary);
    std::vector<wanted_row> rows;
    for (int i = 0; i < 6; ++i)
      rows.push_back(row_of(vocabulary, vocabulary));
    expect_equal(rows, vocabulary, vocabulary);
  }
}

TEST_F(choices, are_the_samplers_for_every_combination_of_filters) {
  constexpr int64_t vocabulary = 3000;
  std::vector<wanted_row> rows;
  for (const int32_t top_k : {0, 1, 40, 2999, 3000})
    for (const float top_p : {1.0f, 0.9f, 0.2f, 1e-6f})
      for (const float min_p : {0.0f, 0.1f, 1.0f}) {
        auto one = row_of(vocabulary, vocabulary);
        one.params.temperature = 0.9f;
        one.params.top_k = top_k;
        one.params.top_p = top_p;
        one.params.min_p = min_p;
        rows.push_back(std::move(one));
      }
  expect_equal(rows, vocabulary, vocabulary);
}

TEST_F(choices, of_logits_that_are_not_numbers_fail_their_row_alone) {
  constexpr int64_t vocabulary = 5000;
  std::vector<wanted_row> rows;
  for (const float broken : {std::nanf(""), infinity, -infinity, 0.0f})
    for (int i = 0; i < 4; ++i) {
      auto one = row_of(vocabulary, vocabulary);
      if (broken == -infinity)
        std::fill(one.logits.begin(), one.logits.end(), broken);
      else
        one.logits[i == 0 ? 0 : random() % vocabulary] = broken; // the end token's, too
      one.params.min_tokens = 100;
      rows.push_back(std::move(one));
    }
  expect_equal(rows, vocabulary, vocabulary);
}

TEST_F(choices, where_all_is_suppressed_or_overflows_are_the_samplers) {
  std::vector<wanted_row> rows;
  for (const float penalty : {1e-38f, 100.0f}) {
    auto one = row_of(3, 3);
    one.logits = {1, 3e38f, -3e38f};
    one.params = {};
    one.params.repetition_penalty = penalty;
    one.tokens = {0, 1, 2};
    one.prompt_size = 1;
    rows.push_back(one);
    one.params.stop_token_ids = {0, 1, 2};
    one.params.min_tokens = 100;
    rows.push_back(one);
  }
  expect_equal(rows, 3, 3);
}

TEST_F(choices, between_models_of_other_vocabularies_are_the_samplers) {
  for (const auto& [width, vocabulary] : {std::pair{900, 1000}, std::pair{1000, 900}}) {
    std::vector<wanted_row> rows;
    for (int i = 0; i < 12; ++i) {
      auto one = row_of(width, vocabulary);
      rows.push_back(std::move(one));
    }
    // The oracle looks at tokens of the vocabulary only.
    for (auto& one : rows)
      one.logits.resize(static_cast<size_t>(width));
    expect_equal(rows, width, vocabulary);
  }
}

TEST_F(choices, by_more_penalties_than_there_is_room_for_are_the_samplers) {
  constexpr int64_t vocabulary = 20000;
  std::vector<wanted_row> rows;
  for (int i = 0; i < 4; ++i) {
    auto one = row_of(vocabulary, vocabulary);
    one.params.repetition_penalty = 1.2f;
    one.tokens.resize(6000);
    for (auto& token : one.tokens)
      token = static_cast<token_id>(random() % vocabulary);
    rows.push_back(std::move(one));
  }
  expect_equal(rows, vocabulary, vocabulary);
}

} // namespace
} // namespace troupe::engine
