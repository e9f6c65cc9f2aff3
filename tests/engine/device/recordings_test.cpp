#include <cublasLt.h>
#include <gmock/gmock.h>

#include "engine/errors.hpp"
#include "engine/kv/kv_memory.hpp"
#include "engine/model/workspace.hpp"
#include "tests/engine/batch/answer.hpp"
#include "tests/engine/device/devices.hpp"

namespace troupe::engine {
namespace {

/// A model of the same shape that says other things.
golden::model with_other_weights(golden::model model) {
  const auto from = model.lookup();
  auto turned = std::make_shared<std::vector<char>>();
  model.own_lookup = [from, turned](std::string_view name) -> std::optional<weight_view> {
    auto out = from(name);
    if (!out || name.find("embed_tokens") == name.npos)
      return out;
    // The last token's first.
    const auto rows = static_cast<size_t>(out->shape[0]);
    const auto row_bytes = static_cast<size_t>(out->shape[1]) * size_of(out->type);
    turned->resize(rows * row_bytes);
    for (size_t row = 0; row < rows; ++row)
      std::memcpy(&(*turned)[(rows - 1 - row) * row_bytes],
                  static_cast<const char*>(out->data) + row * row_bytes, row_bytes);
    out->data = turned->data();
    return out;
  };
  return model;
}

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
  std::map<uint64_t, std::vector<token_id>> first;
  for (int load = 0; load < 3; ++load) { // in the same memory again, as like as not
    const auto before = launched();
    const auto model = open(load == 1 ? other : one, *device);
    ask(load == 1 ? other : one, *model, 0);
    const auto got = golden::drain(*model);
    EXPECT_GT(launched(), before);
    if (load == 0)
      first = got;
    if (load == 2) {
      EXPECT_EQ(got, first);
    }
  }
  device.reset();
  EXPECT_EQ(cuda_emulation::graphs().alive, 0u);
}

TEST_F(recorded_steps, of_a_model_are_taken_over_by_the_next_one_of_its_shape) {
  const auto twin = with_other_weights(one);
  const auto say = [&](const golden::model& model, gpu::device& on) {
    const auto loaded = open(model, on);
    for (uint64_t id = 0; id < 2; ++id)
      EXPECT_FALSE(loaded->add(golden::request(id, {1, 2, 3}, 4 + 3 * static_cast<uint32_t>(id))));
    return golden::drain(*loaded);
  };
  const std::map<uint64_t, std::vector<token_id>> want[] = {say(one, plain), say(twin, plain)};
  ASSERT_NE(want[0], want[1]);
  const auto before = cuda_emulation::graphs();
  size_t instantiated = 0;
  for (int load = 0; load < 100; ++load) {
    EXPECT_EQ(say(load % 2 == 0 ? one : twin, *device), want[load % 2]) << "load " << load;
    const auto now = cuda_emulation::graphs();
    if (load == 0)
      instantiated = now.instantiated;
    ASSERT_EQ(now.instantiated, instantiated) << "load " << load;
  }
  EXPECT_GT(instantiated, before.instantiated);
  EXPECT_EQ(cuda_emulation::graphs().updated - before.updated,
            99 * (instantiated - before.instantiated));
  EXPECT_EQ(cuda_emulation::graphs().not_updated, before.not_updated);
}

TEST_F(recorded_steps, of_models_of_another_shape_are_not_taken_over) {
  const auto before = cuda_emulation::graphs();
  std::map<uint64_t, std::vector<token_id>> first[2];
  for (int load = 0; load < 4; ++load) {
    const auto& model = load % 2 == 0 ? one : other;
    const auto loaded = open(model, *device);
    ask(model, *loaded, 0);
    auto got = golden::drain(*loaded);
    const auto now = cuda_emulation::graphs();
    EXPECT_EQ(now.not_updated, before.not_updated);
    EXPECT_EQ(now.updated > before.updated, load >= 2);
    if (load < 2)
      first[load] = std::move(got);
    else
      EXPECT_EQ(got, first[load % 2]);
  }
}

TEST_F(recorded_steps, that_cannot_be_taken_over_are_made_anew) {
  const auto twin = with_other_weights(one);
  const auto alone = open(twin, plain);
  ask(twin, *alone, 0);
  const auto want = golden::drain(*alone);
  {
    const auto first = open(one, *device);
    ask(one, *first, 0);
    golden::drain(*first);
  }
  cuda_emulation::refuse(cuda_emulation::graph_call::update);
  const auto before = cuda_emulation::graphs();
  const auto second = open(twin, *device);
  ask(twin, *second, 0);
  EXPECT_EQ(golden::drain(*second), want);
  const auto now = cuda_emulation::graphs();
  EXPECT_GT(now.instantiated, before.instantiated);
  EXPECT_EQ(now.updated, before.updated);
  EXPECT_EQ(now.alive, before.alive); // those that were refused have gone
}

TEST_F(recorded_steps, go_when_the_workspace_that_they_use_moves) {
  const auto expected = open(one, plain);
  ask(one, *expected, 0);
  const auto want = golden::drain(*expected);
  const auto work = std::make_shared<workspace>(*device);
  const auto recording = open(one, *device, work);
  const auto record_all = [&] { // each size comes twice at least
    for (int round = 0; round < 2; ++round) {
      ask(one, *recording, 0);
      EXPECT_EQ(golden::drain(*recording), want);
    }
  };
  record_all();
  const auto before = cuda_emulation::graphs();
  EXPECT_GT(before.alive, 0u);
  const auto large = open(other, *device, work, 4096);
  record_all();
  const auto now = cuda_emulation::graphs();
  EXPECT_EQ(now.updated - before.updated, before.alive); // each was recorded anew
  EXPECT_EQ(now.instantiated, before.instantiated);
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

TEST(device_memory, steps_take_no_more_than_was_foretold) {
  const auto model = golden::load("llama_gqa_tied");
  for (const auto wide : {gpu::products::invariant, gpu::products::fastest}) {
    std::vector<std::string> warnings;
    gpu::device_options how;
    how.wide = wide;
    how.warn = [&](const std::string& what) { warnings.push_back(what); };
    engine_options options;
    options.kv_bytes = 4 << 20;
    options.step_tokens_max = 512;
    const auto any = test::cuda_or_null(how);
    const auto foretold =
        estimate_memory(model.config, model.checkpoint->size_bytes(), options, any.get());
    how.memory_bytes = foretold.weights_bytes + foretold.kv_bytes + foretold.workspace_bytes;
    const auto device = test::cuda_or_null(how);
    const auto engine = model.open(*device, options);
    ASSERT_TRUE(engine);
    const auto before = cublaslt_emulation::counted().products;
    for (uint64_t id = 0; id < 8; ++id) {
      std::vector<token_id> prompt;
      for (size_t i = 0; i < 100; ++i)
        prompt.push_back(model.prompt[(i + id) % model.prompt.size()]);
      ASSERT_FALSE(engine->add(golden::request(id, prompt, 8, id % 2 == 0 ? 0.0f : 0.7f, id)));
    }
    const auto texts = golden::drain(*engine);
    EXPECT_EQ(texts.size(), 8u);
    for (const auto& [id, text] : texts)
      EXPECT_EQ(text.size(), 8u) << id;
    EXPECT_EQ(cublaslt_emulation::counted().products > before, wide == gpu::products::fastest);
    EXPECT_THAT(warnings, testing::IsEmpty());
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
