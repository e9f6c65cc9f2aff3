#include <algorithm>
#include <limits>
#include <random>

#include "engine/batch/draft_model.hpp"
#include "tests/engine/batch/answer.hpp"

namespace troupe::engine {
namespace {

using golden::ask;
using ids = std::vector<token_id>;

draft_source source_of(const golden::model& model) {
  return {std::make_shared<const model_config>(model.config), model.lookup(), model.checkpoint};
}

/// A model with tied embeddings that knows only the first `tokens` of its tokens.
golden::model with_vocabulary(golden::model model, int64_t tokens) {
  model.own_lookup = [whole = model.lookup(), tokens](std::string_view name) {
    auto found = whole(name);
    if (found && name == "model.embed_tokens.weight")
      found->shape[0] = tokens;
    return found;
  };
  model.config.vocab_size = tokens;
  std::erase_if(model.prompt, [&](token_id id) { return id >= tokens; });
  return model;
}

std::unique_ptr<engine> open(const golden::model& model, gpu::device& device,
                             const engine_options& options, const golden::model* draft = nullptr) {
  const auto source = draft ? source_of(*draft) : draft_source{};
  auto made = engine::create(model.config, model.lookup(), model.checkpoint, device, options,
                             draft ? &source : nullptr);
  EXPECT_TRUE(made) << describe(made.error());
  return made ? std::move(*made) : nullptr;
}

class draft_models : public testing::Test {
protected:
  golden::model model = golden::load("llama_gqa_tied"), other = golden::load("llama_mha");
  std::unique_ptr<gpu::device> device = gpu::make_cpu_device();

  engine_options plain() const {
    engine_options out;
    out.draft_tokens_max = 0;
    return out;
  }
};

TEST_F(draft_models, another_model_changes_neither_a_token_nor_a_logprob) {
  for (const auto& name : golden::names()) {
    const auto large = golden::load(name);
    if (large.config.vocab_size != other.config.vocab_size)
      continue;
    auto alone = open(large, *device, plain());
    auto guessing = open(large, *device, {}, &other);
    for (uint64_t id = 0; id < 5; ++id) {
      auto request = golden::request(id, large.prompt, 40, 0.3f * static_cast<float>(id), id);
      request.sampling.top_logprobs = 2;
      request.sampling.frequency_penalty = id == 2 ? 0.5f : 0.0f;
      request.sampling.top_p = id == 3 ? 0.8f : 1.0f;
      EXPECT_EQ(ask(*alone, request), ask(*guessing, request)) << name << ", " << id;
    }
    EXPECT_GT(guessing->counters().guesses, 0u) << name;
    EXPECT_EQ(guessing->kv_usage(), 0);
  }
}

// The same logits, and draws that are functions of them, the seed and the position.
TEST_F(draft_models, the_model_itself_guesses_all_right_at_every_temperature) {
  auto alone = open(model, *device, plain());
  auto guessing = open(model, *device, {}, &model);
  for (const float temperature : {0.0f, 0.7f, 1.5f}) {
    const auto request = golden::request(1, model.prompt, 64, temperature, 11);
    const auto slow = ask(*alone, request), fast = ask(*guessing, request);
    EXPECT_EQ(slow, fast);
    EXPECT_EQ(slow.steps, 64u);
    EXPECT_LE(fast.steps, 12u) << temperature;
  }
  const auto counters = guessing->counters();
  EXPECT_GT(counters.guesses, 100u);
  EXPECT_EQ(counters.right_guesses, counters.guesses);
}

TEST_F(draft_models, vocabularies_of_two_sizes_meet) {
  const auto small = with_vocabulary(model, 64);
  for (const bool is_larger : {true, false}) {
    const auto* large = is_larger ? &model : &small;
    const auto* draft = is_larger ? &small : &model;
    auto alone = open(*large, *device, plain());
    auto guessing = open(*large, *device, {}, draft);
    const auto last = static_cast<token_id>(large->config.vocab_size - 1);
    for (uint64_t id = 0; id < 8; ++id) {
      auto request = golden::request(id, small.prompt, 60, 0.25f * static_cast<float>(id), id);
      request.sampling.logit_bias = {{last, 1.0f}};
      request.sampling.repetition_penalty = 1.1f;
      EXPECT_EQ(ask(*alone, request), ask(*guessing, request)) << id;
    }
    EXPECT_GT(guessing->counters().guesses, 0u);
  }
}

TEST_F(draft_models, a_long_prompt_is_learned_in_chunks_and_a_shared_one_once) {
  model.config.context_length = 2048;
  ids prompt;
  for (token_id i = 0; i < 700; ++i)
    prompt.push_back(3 + (i * i + i / 7) % 70);
  auto alone = open(model, *device, plain());
  auto guessing = open(model, *device, {}, &model);
  const auto slow = ask(*alone, golden::request(1, prompt, 40));
  const auto first = ask(*guessing, golden::request(1, prompt, 40));
  const auto second = ask(*guessing, golden::request(2, prompt, 40));
  EXPECT_EQ(slow, first);
  EXPECT_EQ(slow, second);
  EXPECT_EQ(slow.steps - 40, 1u); // 512 rows and the rest
  // Three calls of 256 rows until it guesses; then, of a known prompt, at once.
  EXPECT_LT(first.steps, 20u);
  EXPECT_LT(second.steps, first.steps);
}

TEST_F(draft_models, a_text_beyond_the_draft_models_context_goes_on_without_guesses) {
  auto draft = model;
  draft.config.context_length = 32;
  auto alone = open(model, *device, plain());
  auto guessing = open(model, *device, {}, &draft);
  const auto request = golden::request(1, model.prompt, 60);
  EXPECT_EQ(ask(*alone, request), ask(*guessing, request));
  EXPECT_GT(guessing->counters().guesses, 0u);
  EXPECT_LT(guessing->counters().guesses, 20u);
}

TEST_F(draft_models, damaged_draft_weights_cost_guesses_only) {
  std::vector<uint32_t> nan(1 << 16, 0xffffffff);
  auto draft = model;
  draft.own_lookup = [whole = model.lookup(), &nan](std::string_view name) {
    auto found = whole(name);
    if (found && name == "model.norm.weight")
      found->data = nan.data();
    return found;
  };
  auto alone = open(model, *device, plain());
  auto guessing = open(model, *device, {}, &draft);
  const auto request = golden::request(1, model.prompt, 30);
  EXPECT_EQ(ask(*alone, request), ask(*guessing, request));
  EXPECT_EQ(guessing->counters().guesses, 0u);
}

/// Sequences come, go and come back, in an arena of which a quarter holds one or two of them.
TEST_F(draft_models, a_crowd_with_hardly_any_room_for_guesses_changes_no_text) {
  engine_options options;
  options.block_size = 4;
  options.sequences_max = 6;
  options.step_tokens_max = 16;
  const auto shape = plan_kv(model.config, *model.config.type, options);
  options.kv_bytes = shape.block_bytes * 64;
  auto alone = open(model, *device, plain());
  auto guessing = open(model, *device, options, &model);
  std::mt19937_64 random{7};
  std::vector<sequence_request> requests;
  std::map<uint64_t, ids> expected, got;
  for (uint64_t id = 0; id < 24; ++id) {
    auto prompt = model.prompt;
    prompt.resize(4 + random() % (prompt.size() - 4));
    requests.push_back(
        golden::request(id, prompt, 1 + random() % 40, id % 2 == 0 ? 0.0f : 0.9f, random()));
    expected[id] = ask(*alone, requests.back()).tokens;
  }
  size_t next = 0;
  for (int step = 0; next < requests.size() || !guessing->idle(); ++step) {
    ASSERT_LT(step, 5000) << "no progress";
    if (next < requests.size() && step % 3 == 0) {
      ASSERT_FALSE(guessing->add(requests[next++]));
    }
    const auto events = guessing->step();
    ASSERT_TRUE(events) << describe(events.error());
    for (const auto& event : *events)
      got[event.id.number].push_back(event.token);
    if (step % 11 == 10 && next > 0) { // one goes away and comes back with what it has
      auto& one = requests[random() % next];
      const auto& text = got[one.id.number];
      if (text.size() >= one.sampling.max_tokens)
        continue;
      guessing->cancel(one.id);
      auto again = one;
      again.epoch = static_cast<uint32_t>(step);
      again.tokens.insert(again.tokens.end(), text.begin(), text.end());
      ASSERT_FALSE(guessing->add(again));
    }
  }
  EXPECT_EQ(got, expected);
  EXPECT_GT(guessing->counters().right_guesses, 0u);
  EXPECT_EQ(guessing->kv_usage(), 0);
}

TEST_F(draft_models, take_the_memory_that_was_foretold) {
  const engine_options options;
  const auto alone = open(model, *device, options)->memory();
  const auto both = open(model, *device, options, &other)->memory();
  uint64_t weight_bytes = 0;
  for (const auto& spec : weight_plan(other.config)) {
    const auto found = other.lookup()(spec.name);
    ASSERT_TRUE(found) << spec.name;
    uint64_t size = size_of(found->type);
    for (const auto n : found->shape)
      size *= static_cast<uint64_t>(n);
    weight_bytes += size;
  }
  const auto foretold = estimate_draft_memory(other.config, weight_bytes, options, device.get());
  EXPECT_EQ(both.weights_bytes, alone.weights_bytes + foretold.weights_bytes);
  EXPECT_EQ(both.kv_bytes, alone.kv_bytes + foretold.kv_bytes);
  EXPECT_EQ(both.workspace_bytes, std::max(alone.workspace_bytes, foretold.workspace_bytes));
}

TEST_F(draft_models, an_arena_without_room_for_two_tokens_is_refused) {
  engine_options options;
  options.block_size = 4;
  options.kv_bytes = 2 * plan_kv(model.config, *model.config.type, options).block_bytes;
  const auto source = source_of(other);
  const auto made =
      engine::create(model.config, model.lookup(), nullptr, *device, options, &source);
  ASSERT_FALSE(made);
  EXPECT_NE(describe(made.error()).find("draft model"), std::string::npos);
}

} // namespace
} // namespace troupe::engine
