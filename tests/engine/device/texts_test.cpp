#include "tests/engine/device/devices.hpp"
#include "tests/engine/model/golden_model.hpp"

namespace troupe::engine {
namespace {

/// What was said to one request, with every logprob.
struct said {
  std::vector<token_id> tokens;
  std::vector<float> logprobs;
  std::vector<token_id> tops;
  bool operator==(const said&) const = default;
};

/// Runs until idle.
std::map<uint64_t, said> listen(engine& engine) {
  std::map<uint64_t, said> out;
  while (!engine.idle()) {
    const auto events = engine.step();
    EXPECT_TRUE(events) << describe(events.error());
    if (!events)
      break;
    for (const auto& event : *events) {
      auto& one = out[event.id.number];
      one.tokens.push_back(event.token);
      one.logprobs.push_back(event.logprob);
      for (const auto& top : event.top) {
        one.tops.push_back(top.token);
        one.logprobs.push_back(top.logprob);
      }
    }
  }
  return out;
}

/// Requests that use every way to choose a token, some of whose texts repeat themselves.
std::vector<sequence_request> varied(const golden::model& model) {
  std::vector<sequence_request> out;
  for (uint64_t id = 0; id < 12; ++id) {
    auto prompt = model.prompt;
    prompt.resize(std::min<size_t>(prompt.size(), 6 + id));
    if (id % 2 == 0) {
      const auto once = prompt;
      prompt.insert(prompt.end(), once.begin(), once.end());
    }
    auto next = golden::request(id, prompt, 10 + static_cast<uint32_t>(id),
                                id % 3 == 0 ? 0.0f : 0.3f + 0.1f * static_cast<float>(id), id);
    auto& sampling = next.sampling;
    sampling.top_p = id % 4 == 1 ? 0.9f : 1.0f;
    sampling.top_k = id % 5 == 2 ? 20 : 0;
    sampling.min_p = id % 4 == 3 ? 0.05f : 0.0f;
    sampling.frequency_penalty = id % 4 == 1 ? 0.3f : 0.0f;
    sampling.presence_penalty = id % 6 == 4 ? 0.5f : 0.0f;
    sampling.repetition_penalty = id % 5 == 3 ? 1.2f : 1.0f;
    sampling.top_logprobs = id % 3 == 1 ? 3 : id == 6 ? 0 : -1;
    sampling.min_tokens = id == 5 ? 8 : 0;
    sampling.stop_token_ids = {3};
    if (id % 4 == 2)
      sampling.logit_bias = {{2, 1.0f}, {5, -100.0f}};
    if (id == 10) // for the host
      sampling.logit_bias = {{2, 1.0f}, {2, 1.0f}};
    out.push_back(std::move(next));
  }
  return out;
}

class texts : public testing::TestWithParam<const char*> {
protected:
  void SetUp() override {
    device = test::cuda_or_null();
    if (!device)
      GTEST_SKIP() << "no GPU";
  }

  std::map<uint64_t, said> run(gpu::device& on, const engine_options& options,
                               const draft_source* draft = nullptr) {
    auto made = engine::create(model.config, model.lookup(), model.checkpoint, on, options, draft);
    EXPECT_TRUE(made) << describe(made.error());
    for (auto& request : varied(model))
      EXPECT_FALSE((*made)->add(std::move(request)));
    auto out = listen(**made);
    guesses = (*made)->counters().guesses;
    return out;
  }

  golden::model model = golden::load(GetParam());
  std::unique_ptr<gpu::device> device;
  uint64_t guesses = 0; ///< of the last run
};

TEST_P(texts, chosen_on_the_device_are_those_chosen_on_the_host) {
  test::plain_device plain{*device};
  for (const uint32_t guessed : {0, 8}) {
    engine_options options;
    options.kv_bytes = 4 << 20;
    options.draft_tokens_max = guessed;
    options.sequences_max = guessed == 0 ? 12 : 3; // guesses pay in small batches only
    ASSERT_TRUE(device->chooses() && !plain.chooses());
    const auto want = run(plain, options), got = run(*device, options);
    EXPECT_EQ(want.size(), 12u);
    for (const auto& [id, one] : want)
      EXPECT_EQ(got.at(id), one) << "request " << id << ", guesses " << guessed;
    EXPECT_EQ(guesses > 0, guessed > 0);
  }
}

TEST_P(texts, with_a_draft_model_on_the_device_are_the_same) {
  test::plain_device plain{*device};
  engine_options options;
  options.kv_bytes = 4 << 20;
  options.draft_tokens_max = 0;
  const auto want = run(plain, options);
  options.draft_tokens_max = 4;
  const draft_source itself{std::make_shared<model_config>(model.config), model.lookup(),
                            model.checkpoint};
  const auto got = run(*device, options, &itself);
  EXPECT_GT(guesses, 20u);
  for (const auto& [id, one] : want)
    EXPECT_EQ(got.at(id), one) << "request " << id;
}

INSTANTIATE_TEST_SUITE_P(models, texts, testing::Values("llama_gqa_tied", "mistral_window"));

} // namespace
} // namespace troupe::engine
