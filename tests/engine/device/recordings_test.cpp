#include <cuda_runtime.h>

#include "tests/engine/batch/answer.hpp"
#include "tests/engine/device/devices.hpp"

namespace troupe::engine {
namespace {

/// Steps that only decode are recorded and replayed; what is replayed must say what the ops say.
/// On the emulated device alone, for only that counts recordings.
class recorded_steps : public testing::Test {
protected:
  void TearDown() override { cuda_emulation::refuse(cuda_emulation::graph_call::none); }

  std::unique_ptr<engine> open(const golden::model& model, gpu::device& on) {
    engine_options options;
    options.kv_bytes = 4 << 20;
    options.block_size = 4; // so that tables grow
    options.draft_tokens_max = 0;
    return model.open(on, options);
  }

  /// Texts of many lengths that begin and end at different steps.
  static void ask(const golden::model& model, engine& of, uint64_t first_id) {
    for (uint64_t i = 0; i < 4; ++i) {
      auto prompt = model.prompt;
      prompt.resize(std::min<size_t>(prompt.size(), 3 + 3 * i));
      EXPECT_FALSE(of.add(golden::request(first_id + i, prompt, static_cast<uint32_t>(8 + 12 * i),
                                          i == 0 ? 0.0f : 0.7f, i)));
    }
  }

  size_t launched() const { return cuda_emulation::graphs().launched - before_; }

  golden::model one = golden::load("llama_gqa_tied"), other = golden::load("qwen3");
  std::unique_ptr<gpu::device> device = test::cuda_or_null();
  test::plain_device plain{*device};

private:
  size_t before_ = cuda_emulation::graphs().launched;
};

TEST_F(recorded_steps, say_what_the_ops_say_while_batches_change_and_contexts_grow) {
  const auto expected = open(one, plain);
  ask(one, *expected, 0);
  const auto want = golden::drain(*expected);
  EXPECT_EQ(launched(), 0u);
  const auto recording = open(one, *device);
  for (int round = 0; round < 2; ++round) {
    ask(one, *recording, 0);
    EXPECT_EQ(golden::drain(*recording), want) << "round " << round;
  }
  // Of some hundred steps nearly all are like one before.
  EXPECT_GT(launched(), recording->counters().steps / 2);
}

TEST_F(recorded_steps, of_two_models_on_one_device_keep_apart) {
  std::map<uint64_t, std::vector<token_id>> want[2];
  for (const auto* model : {&one, &other}) {
    const auto alone = open(*model, plain);
    ask(*model, *alone, 0);
    want[model == &other] = golden::drain(*alone);
  }
  const std::unique_ptr<engine> both[] = {open(one, *device), open(other, *device)};
  std::map<uint64_t, std::vector<token_id>> got[2];
  for (int round = 0; round < 2; ++round) {
    ask(one, *both[0], 0);
    ask(other, *both[1], 0);
    got[0].clear();
    got[1].clear();
    while (!both[0]->idle() || !both[1]->idle())
      for (int i = 0; i < 2; ++i) {
        const auto events = both[i]->step();
        ASSERT_TRUE(events) << describe(events.error());
        for (const auto& event : *events)
          got[i][event.id.number].push_back(event.token);
      }
    EXPECT_EQ(got[0], want[0]);
    EXPECT_EQ(got[1], want[1]);
  }
  EXPECT_GT(launched(), 40u);
}

TEST_F(recorded_steps, go_with_their_model) {
  const auto alive = cuda_emulation::graphs().alive;
  std::map<uint64_t, std::vector<token_id>> first;
  for (int load = 0; load < 3; ++load) { // in the same memory again, as like as not
    const auto model = open(load == 1 ? other : one, *device);
    ask(load == 1 ? other : one, *model, 0);
    const auto got = golden::drain(*model);
    EXPECT_GT(cuda_emulation::graphs().alive, alive);
    if (load == 0)
      first = got;
    if (load == 2) {
      EXPECT_EQ(got, first);
    }
  }
  EXPECT_EQ(cuda_emulation::graphs().alive, alive);
}

TEST_F(recorded_steps, that_cannot_be_recorded_are_no_errors) {
  using cuda_emulation::graph_call;
  const auto expected = open(one, plain);
  ask(one, *expected, 0);
  const auto want = golden::drain(*expected);
  for (const auto call :
       {graph_call::begin, graph_call::end, graph_call::instantiate, graph_call::launch}) {
    cuda_emulation::refuse(call);
    const auto recording = open(one, *device);
    ask(one, *recording, 0);
    EXPECT_EQ(golden::drain(*recording), want);
  }
  EXPECT_EQ(launched(), 0u);
}

} // namespace
} // namespace troupe::engine
