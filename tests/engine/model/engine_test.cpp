#include <algorithm>
#include <random>

#include "engine/errors.hpp"
#include "tests/engine/model/golden_logits.hpp"

namespace troupe::engine {
namespace {

std::unique_ptr<gpu::device> fast_device() {
  gpu::device_options options;
  options.threads = 2;
  return gpu::make_cpu_device(options);
}

class golden_model : public testing::TestWithParam<std::string> {
protected:
  golden::model model = golden::load(GetParam());
};

TEST_P(golden_model, logits_equal_those_of_transformers_within_1e_4) {
  golden::expect_the_logits_of_transformers(model);
}

TEST_P(golden_model, sixty_four_greedy_tokens_equal_those_of_transformers) {
  golden::expect_the_greedy_text_of_transformers(model);
}

TEST_P(golden_model, chunked_prompts_and_crowds_change_nothing) {
  auto device = fast_device();
  for (const float temperature : {0.0f, 0.9f}) {
    engine_options options;
    if (temperature == 0.0f)
      options.kv_type = dtype::i8;
    auto alone = model.open(*device, options);
    ASSERT_FALSE(alone->add(golden::request(1, model.prompt, 24, temperature, 99)));
    const auto expected = golden::drain(*alone)[1];
    for (const uint32_t chunk : {3u, 7u}) {
      options.sequences_max = 3;
      options.step_tokens_max = chunk;
      auto crowded = model.open(*device, options);
      std::mt19937_64 random{chunk};
      for (uint64_t id = 1; id <= 6; ++id) {
        auto prompt = model.prompt;
        if (id != 3)
          prompt.resize(1 + random() % prompt.size());
        const uint64_t seed = id == 3 ? 99 : id;
        ASSERT_FALSE(
            crowded->add(golden::request(id, prompt, id == 3 ? 24 : 9, temperature, seed)));
      }
      EXPECT_EQ(golden::drain(*crowded)[3], expected);
    }
  }
}

TEST_P(golden_model, a_sequence_resumed_at_any_token_goes_on_as_before) {
  auto device = fast_device();
  auto whole = model.open(*device);
  ASSERT_FALSE(whole->add(golden::request(1, model.prompt, 20, 1.0f, 7)));
  const auto expected = golden::drain(*whole)[1];
  auto resumed = model.open(*device);
  for (size_t at = 1; at < expected.size(); at += 3) {
    auto again = golden::request(1, model.prompt, 20, 1.0f, 7);
    again.tokens.insert(again.tokens.end(), expected.begin(),
                        expected.begin() + static_cast<long>(at));
    ASSERT_FALSE(resumed->add(again));
    std::vector<token_id> rest(expected.begin(), expected.begin() + static_cast<long>(at));
    while (!resumed->idle()) {
      const auto events = resumed->step();
      ASSERT_TRUE(events) << describe(events.error());
      for (const auto& event : *events) {
        EXPECT_EQ(event.offset, rest.size());
        rest.push_back(event.token);
      }
    }
    EXPECT_EQ(rest, expected) << "resumed at " << at;
  }
}

TEST_P(golden_model, running_out_of_kv_blocks_changes_nothing) {
  auto device = fast_device();
  engine_options roomy, tight;
  const auto shape = plan_kv(model.config, model.config.type.value_or(dtype::bf16), tight);
  tight.kv_bytes =
      shape.block_bytes * ((model.prompt.size() + 40) / tight.block_size + 2); // not two of them
  std::map<uint64_t, std::vector<token_id>> texts[2];
  for (const bool is_tight : {false, true}) {
    auto engine = model.open(*device, is_tight ? tight : roomy);
    for (uint64_t id = 1; id <= 4; ++id)
      ASSERT_FALSE(engine->add(golden::request(id, model.prompt, 30, 0.8f, id)));
    texts[is_tight] = golden::drain(*engine);
    EXPECT_EQ(engine->kv_usage(), 0);
  }
  EXPECT_EQ(texts[0], texts[1]);
}

INSTANTIATE_TEST_SUITE_P(models, golden_model, testing::ValuesIn(golden::names()),
                         [](const auto& one) { return one.param; });

class one_model : public testing::Test {
protected:
  golden::model model = golden::load("llama_gqa_tied");
  std::unique_ptr<gpu::device> device = golden::exact_device();
};

TEST_F(one_model, bad_sequences_are_refused_with_a_reason) {
  auto engine = model.open(*device);
  const auto refused = [&](sequence_request request, const std::string& says) {
    const auto why = engine->add(std::move(request));
    ASSERT_TRUE(why);
    EXPECT_NE(describe(why).find(says), std::string::npos) << describe(why);
  };
  refused(golden::request(1, {}, 4), "at least one");
  refused(golden::request(1, {100000}, 4), "token id 100000");
  refused(golden::request(1, {-1}, 4), "token id -1");
  refused(golden::request(1, std::vector<token_id>(100000, 1), 4), "tokens, but only");
  refused(golden::request(1, {1}, 0), "max_tokens");
  refused(golden::request(1, {1}, 4, std::nanf("")), "temperature");
  EXPECT_TRUE(engine->idle());
}

TEST_F(one_model, end_tokens_stop_unless_ignored_or_too_early) {
  const auto stop = model.greedy[5];
  const auto first =
      std::find(model.greedy.begin(), model.greedy.end(), stop) - model.greedy.begin();
  auto with_stop = golden::request(1, model.prompt, 64);
  with_stop.sampling.stop_token_ids = {stop};
  engine_options options;
  options.kv_type = dtype::f32;
  auto engine = model.open(*device, options);
  ASSERT_FALSE(engine->add(with_stop));
  EXPECT_EQ(static_cast<long>(golden::drain(*engine)[1].size()), first + 1);
  with_stop.sampling.min_tokens = static_cast<uint32_t>(first) + 10;
  ASSERT_FALSE(engine->add(with_stop));
  EXPECT_GE(golden::drain(*engine)[1].size(), static_cast<size_t>(first) + 10);
}

TEST_F(one_model, the_context_ends_a_text) {
  engine_options options;
  options.context_max = static_cast<uint32_t>(model.prompt.size()) + 5;
  auto engine = model.open(*device, options);
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 64)));
  EXPECT_EQ(golden::drain(*engine)[1].size(), 5u);
}

TEST_F(one_model, a_cancelled_sequence_frees_its_blocks) {
  auto engine = model.open(*device);
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 64)));
  ASSERT_TRUE(engine->step());
  EXPECT_GT(engine->kv_usage(), 0);
  engine->cancel({1, 0});
  EXPECT_EQ(engine->kv_usage(), 0);
  EXPECT_TRUE(engine->idle());
  engine->cancel({2, 0});
}

TEST_F(one_model, a_missing_or_misshapen_tensor_is_named) {
  const auto create = [&](const weight_lookup& lookup) {
    return engine::create(model.config, lookup, nullptr, *device, {});
  };
  const auto missing = create([](std::string_view) { return std::nullopt; });
  ASSERT_FALSE(missing);
  EXPECT_NE(describe(missing.error()).find("model.embed_tokens.weight"), std::string::npos);
  const auto wrong = create([&](std::string_view name) {
    auto found = model.lookup()(name);
    if (found && name.ends_with("up_proj.weight"))
      found->shape[0] += 1;
    return found;
  });
  ASSERT_FALSE(wrong);
  EXPECT_NE(describe(wrong.error()).find("up_proj"), std::string::npos);
}

TEST_F(one_model, weights_that_are_not_numbers_give_an_error) {
  std::vector<float> broken(1 << 16, std::nanf(""));
  auto engine = engine::create(model.config,
                               [&](std::string_view name) {
                                 auto found = model.lookup()(name);
                                 if (found && name == "model.norm.weight") {
                                   found->data = broken.data();
                                   found->type = dtype::f32;
                                 }
                                 return found;
                               },
                               nullptr, *device, {});
  ASSERT_TRUE(engine) << describe(engine.error());
  ASSERT_FALSE((*engine)->add(golden::request(1, model.prompt, 4)));
  const auto events = (*engine)->step();
  ASSERT_TRUE(events) << describe(events.error());
  EXPECT_TRUE(events->empty());
  EXPECT_TRUE((*engine)->idle());
  const auto failures = (*engine)->take_failures();
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_NE(describe(failures[0].why).find("not numbers"), std::string::npos);
}

TEST_F(one_model, the_estimate_is_what_the_engine_takes) {
  auto engine = model.open(*device);
  const auto real = engine->memory();
  const auto estimate = estimate_memory(model.config, real.weights_bytes, {}, device.get());
  EXPECT_EQ(estimate.kv_bytes, real.kv_bytes);
  EXPECT_EQ(estimate.workspace_bytes, real.workspace_bytes);
}

} // namespace
} // namespace troupe::engine
