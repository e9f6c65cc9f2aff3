#include <algorithm>

#include "tests/engine/model/poisoned_model.hpp"

namespace troupe::engine {
namespace {

using ids = std::vector<token_id>;

/// A model that sees 7 tokens back in each of its 2 layers, so that a token whose embedding is NaN
/// spoils what comes soon after it and nothing later: it can stand in a text and be guessed again.
class poisoned_guess : public testing::TestWithParam<bool> {
protected:
  struct outcome {
    std::map<uint64_t, ids> texts;
    std::vector<sequence_failure> failures;
    uint64_t guesses = 0;
  };

  /// Runs a sound sequence, and one whose text makes the engine guess the poison next.
  outcome run(uint32_t draft_tokens, float bias_of_poison) {
    engine_options options;
    options.draft_tokens_max = draft_tokens;
    options.reuse_prefixes = false;
    if (GetParam())
      options.kv_type = dtype::i8;
    auto engine = poisoned.open(*device, options);
    ids prompt{1, 2, poison};
    for (token_id i = 0; i < 25; ++i)
      prompt.push_back(10 + i % 13 + i / 13);
    prompt.insert(prompt.end(), {1, 2});
    auto sick = golden::request(1, prompt, 10);
    sick.sampling.logit_bias = {{poison, bias_of_poison}};
    EXPECT_FALSE(engine->add(sick));
    auto sound = golden::request(2, model.prompt, 10, 0.8f, 5);
    sound.sampling.logit_bias = {{poison, -100.0f}};
    EXPECT_FALSE(engine->add(sound));
    outcome out;
    out.texts = golden::drain(*engine);
    out.failures = engine->take_failures();
    out.guesses = engine->counters().guesses;
    EXPECT_EQ(engine->kv_usage(), 0);
    return out;
  }

  static constexpr token_id poison = 70;
  golden::model model = golden::load("mistral_window");
  golden::poisoned_token poisoned{model, poison};
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();
};

TEST_P(poisoned_guess, that_is_wrong_fails_nobody) {
  ASSERT_EQ(std::count(model.prompt.begin(), model.prompt.end(), poison), 0);
  const auto plain = run(0, -100), guessing = run(8, -100);
  EXPECT_TRUE(plain.failures.empty());
  EXPECT_TRUE(guessing.failures.empty());
  EXPECT_GT(guessing.guesses, 0u);
  EXPECT_EQ(guessing.texts, plain.texts);
  EXPECT_EQ(plain.texts.at(1).size(), 10u);
}

TEST_P(poisoned_guess, that_is_right_fails_its_sequence_alone_and_where_it_fails_anyway) {
  const auto plain = run(0, 100), guessing = run(8, 100);
  EXPECT_GT(guessing.guesses, 0u);
  EXPECT_EQ(guessing.texts, plain.texts);
  EXPECT_EQ(guessing.texts.at(1), ids{poison});
  EXPECT_EQ(guessing.texts.at(2).size(), 10u);
  for (const auto* one : {&plain, &guessing}) {
    ASSERT_EQ(one->failures.size(), 1u);
    EXPECT_EQ(one->failures[0].id.number, 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(int8_cache, poisoned_guess, testing::Bool());

} // namespace
} // namespace troupe::engine
