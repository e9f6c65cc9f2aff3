#include <cuda_runtime.h>

#include "engine/errors.hpp"
#include "engine/kv/kv_memory.hpp"
#include "engine/model/workspace.hpp"
#include "tests/engine/batch/answer.hpp"
#include "tests/engine/device/devices.hpp"

namespace troupe::engine {
namespace {

/// Steps that only decode are recorded and replayed; what is replayed must say what the ops say.
/// On the emulated device alone, for only that counts recordings.
class recorded_steps : public testing::Test {
protected:
  void TearDown() override { cuda_emulation::refuse(cuda_emulation::graph_call::none); }

  std::unique_ptr<engine> open(const golden::model& model, gpu::device& on,
                               std::shared_ptr<workspace> work = nullptr,
                               uint32_t step_tokens_max = 512) {
    engine_options options;
    options.step_tokens_max = step_tokens_max;
    options.kv_bytes = 4 << 20;
    options.block_size = 4; // so that tables grow
    options.draft_tokens_max = 0;
    auto made = engine::create(model.config, model.lookup(), model.checkpoint, on, options, nullptr,
                               {nullptr, std::move(work)});
    EXPECT_TRUE(made) << describe(made.error());
    return made ? std::move(*made) : nullptr;
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
  const auto work = std::make_shared<workspace>(*device);
  const std::unique_ptr<engine> both[] = {open(one, *device, work), open(other, *device, work)};
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

TEST_F(recorded_steps, go_when_the_workspace_that_they_use_moves) {
  const auto expected = open(one, plain);
  ask(one, *expected, 0);
  const auto want = golden::drain(*expected);
  const auto work = std::make_shared<workspace>(*device);
  const auto alive = cuda_emulation::graphs().alive;
  const auto recording = open(one, *device, work);
  ask(one, *recording, 0);
  EXPECT_EQ(golden::drain(*recording), want);
  EXPECT_GT(cuda_emulation::graphs().alive, alive);
  const auto large = open(other, *device, work, 4096);
  EXPECT_EQ(cuda_emulation::graphs().alive, alive);
  for (int round = 0; round < 2; ++round) {
    ask(one, *recording, 0);
    EXPECT_EQ(golden::drain(*recording), want);
  }
  EXPECT_GT(cuda_emulation::graphs().alive, alive);
}

TEST(device_memory, is_what_was_foretold_to_the_byte) {
  const auto one = golden::load("llama_gqa_tied"), other = golden::load("qwen3");
  const std::unique_ptr<gpu::device> any = test::cuda_or_null();
  constexpr uint64_t kv_bytes = 4 << 20;
  engine_options options;
  options.kv_bytes = kv_bytes_all;
  auto foretold = estimate_memory(one.config, one.checkpoint->size_bytes(), options, any.get());
  const auto alone = foretold.workspace_bytes;
  foretold =
      foretold + estimate_memory(other.config, other.checkpoint->size_bytes(), options, any.get());
  EXPECT_GE(foretold.workspace_bytes, alone);
  for (const bool fits : {true, false}) {
    gpu::device_options limit;
    limit.memory_bytes =
        foretold.weights_bytes + kv_bytes + foretold.workspace_bytes - (fits ? 0 : 1);
    const auto device = test::cuda_or_null(limit);
    auto kv = kv_memory::create(*device, kv_bytes);
    ASSERT_TRUE(kv);
    const device_share share{*kv, std::make_shared<workspace>(*device)};
    const auto open = [&](const golden::model& model) {
      return engine::create(model.config, model.lookup(), model.checkpoint, *device, options,
                            nullptr, share);
    };
    const auto first = open(one), second = open(other);
    EXPECT_TRUE(first);
    EXPECT_EQ(static_cast<bool>(second), fits);
    if (!second) {
      EXPECT_EQ(second.error(), errc::out_of_memory);
    }
  }
}

TEST(device_memory, of_a_workspace_that_could_not_be_had_again_is_had_by_the_next_step) {
  const auto model = golden::load("llama_gqa_tied");
  const auto device = test::cuda_or_null();
  const auto work = std::make_shared<workspace>(*device);
  const auto open = [&](uint32_t rows) {
    engine_options options;
    options.kv_bytes = 1 << 20;
    options.step_tokens_max = rows;
    return engine::create(model.config, model.lookup(), model.checkpoint, *device, options, nullptr,
                          {nullptr, work});
  };
  auto small = open(64), large = open(512);
  ASSERT_TRUE(small && large);
  cuda_emulation::fail_next(cudaErrorMemoryAllocation); // while it shrinks
  (*large).reset();
  EXPECT_EQ(work->size_bytes(), 0u);
  const auto got = golden::ask(**small, golden::request(1, model.prompt, 8));
  EXPECT_EQ(got.tokens.size(), 8u);
  EXPECT_EQ(work->size_bytes(), (*small)->memory().workspace_bytes);
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
