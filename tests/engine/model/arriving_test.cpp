#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "engine/model/weights.hpp"
#include "engine/model/workspace.hpp"
#include "storage/errors.hpp"
#include "tests/engine/model/golden_model.hpp"
#include "tests/gpu/staged_device.hpp"

/// Engines that run while their weights arrive.
namespace troupe::engine {
namespace {

/// Memory for the tensors of a model that holds NaN until they are let in, and again once dropped.
class slow_weights {
public:
  explicit slow_weights(const golden::model& model) : from_{model.lookup()} {
    for (const auto& spec : weight_plan(model.config)) {
      const auto found = *from_(spec.name);
      size_t elements = 1;
      for (const auto extent : found.shape)
        elements *= static_cast<size_t>(extent);
      tensors_.push_back({found.data, std::vector<char>(elements * size_of(found.type), '\xff')});
      names_[spec.name] = tensors_.size() - 1;
    }
  }

  weight_lookup lookup() {
    return [this](std::string_view name) -> std::optional<weight_view> {
      const auto at = names_.find(std::string{name});
      if (at == names_.end())
        return std::nullopt;
      auto out = from_(name);
      auto& tensor = tensors_[at->second];
      out->data = tensor.bytes.data();
      out->transient = transient;
      out->wait = [this, index = at->second](int64_t, const std::stop_token& stop) {
        return wait(index, stop);
      };
      out->drop = [&tensor, rows = out->shape[0]](int64_t count) {
        EXPECT_GE(count, 1);
        if (count == rows)
          std::fill(tensor.bytes.begin(), tensor.bytes.end(), '\xff');
      };
      return out;
    };
  }

  /// Lets the first `count` tensors in.
  void let_in(size_t count) {
    const std::lock_guard guard{mutex_};
    for (; there_ < std::min(count, tensors_.size()); ++there_)
      std::memcpy(tensors_[there_].bytes.data(), tensors_[there_].from,
                  tensors_[there_].bytes.size());
    changed_.notify_all();
  }
  void fail() {
    const std::lock_guard guard{mutex_};
    failed_ = true;
    changed_.notify_all();
  }

  size_t size() const { return tensors_.size(); }
  bool transient = false;

private:
  caf::error wait(size_t index, const std::stop_token& stop) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, stop, [&] { return there_ > index || failed_; });
    if (there_ <= index && failed_)
      return caf::make_error(storage::errc::corrupted, "w.safetensors: at byte 7");
    return {};
  }

  struct tensor {
    const void* from = nullptr;
    std::vector<char> bytes;
  };
  weight_lookup from_;
  std::deque<tensor> tensors_;
  std::map<std::string, size_t> names_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  size_t there_ = 0;
  bool failed_ = false;
};

std::unique_ptr<gpu::device> two_threads() {
  gpu::device_options options;
  options.threads = 2;
  options.mode = gpu::precision::float32;
  return gpu::make_cpu_device(options);
}

class arriving : public testing::TestWithParam<std::string> {
protected:
  golden::model model = golden::load(GetParam());
  slow_weights weights{model};
  std::unique_ptr<gpu::device> device = two_threads();
  std::atomic<int> news{0};

  engine_options options(quantization quantize) {
    engine_options out;
    out.kv_type = dtype::f32;
    out.quantize = quantize;
    out.on_weights = [this] { ++news; };
    return out;
  }
  std::unique_ptr<engine> open(device_share share = {}) {
    auto made = engine::create(model.config, weights.lookup(), nullptr, *device,
                               options(quantization::none), nullptr, std::move(share));
    EXPECT_TRUE(made) << describe(made.error());
    return std::move(*made);
  }
  /// What an engine says whose weights are in place.
  std::vector<token_id> expected(quantization quantize) {
    const auto ready = model.open(*device, options(quantize));
    EXPECT_FALSE(ready->add(golden::request(1, model.prompt, 8)));
    return golden::drain(*ready)[1];
  }
  /// Lets the tensors in one after the other while the engine computes.
  std::vector<token_id> run(engine& engine) {
    EXPECT_FALSE(engine.add(golden::request(1, model.prompt, 8)));
    std::vector<token_id> tokens;
    std::jthread computing{[&] { tokens = golden::drain(engine)[1]; }};
    for (size_t count = 1; count <= weights.size(); ++count)
      weights.let_in(count);
    computing.join();
    return tokens;
  }
};

TEST_P(arriving, weights_are_used_when_they_are_there_and_not_before) {
  const auto engine = open();
  EXPECT_GT(engine->weights().total_bytes, 0u);
  EXPECT_EQ(engine->weights().left_bytes, engine->weights().total_bytes);
  EXPECT_EQ(run(*engine), std::vector<token_id>(model.greedy.begin(), model.greedy.begin() + 8));
  EXPECT_EQ(engine->weights().left_bytes, 0u);
  EXPECT_GE(news, 1);
}

TEST_P(arriving, weights_that_are_converted_are_dropped_where_they_came_from) {
  for (const auto quantize : {quantization::int8, quantization::int4}) {
    SCOPED_TRACE(static_cast<int>(quantize));
    slow_weights fresh{model};
    auto made = engine::create(model.config, fresh.lookup(), nullptr, *device, options(quantize));
    ASSERT_TRUE(made) << describe(made.error());
    fresh.let_in(fresh.size());
    ASSERT_FALSE((*made)->add(golden::request(1, model.prompt, 8)));
    EXPECT_EQ(golden::drain(**made)[1], expected(quantize));
  }
}

TEST_P(arriving, weights_that_will_not_stay_are_copied) {
  weights.transient = true;
  const auto engine = open();
  EXPECT_EQ(run(*engine), std::vector<token_id>(model.greedy.begin(), model.greedy.begin() + 8));
  EXPECT_EQ(engine->memory().weights_bytes, model.checkpoint->size_bytes());
}

TEST_P(arriving, a_device_of_one_queue_binds_before_the_engine_is_made) {
  weights.let_in(weights.size());
  device = gpu::test::make_staged_device(two_threads());
  ASSERT_FALSE(device->second_queue());
  auto made = model_weights::bind(model.config, weights.lookup(), *device);
  ASSERT_TRUE(made) << describe(made.error());
  EXPECT_TRUE((*made)->are_there());
}

TEST_P(arriving, weights_that_will_not_come_end_the_step_with_their_error) {
  const auto engine = open();
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 8)));
  weights.let_in(plan_tensors(model.config, 1));
  weights.fail();
  auto events = engine->step();
  for (; events; events = engine->step())
    ASSERT_TRUE(events->empty() && engine->held());
  EXPECT_EQ(describe(events.error()), "w.safetensors: at byte 7");
  EXPECT_EQ(describe(engine->weights().why), "w.safetensors: at byte 7");
  EXPECT_GT(engine->weights().left_bytes, 0u);
  EXPECT_GE(news, 1);
}

/// Steps until `layers` layers have run of a step that lacks the weights of the next.
void step_to(engine& engine, uint32_t layers) {
  while (true) {
    const auto events = engine.step();
    ASSERT_TRUE(events) << describe(events.error());
    ASSERT_TRUE(events->empty());
    ASSERT_TRUE(engine.held());
    ASSERT_LE(engine.held()->layers_run, layers);
    if (engine.held()->layers_run == layers)
      return;
    std::this_thread::yield();
  }
}

TEST_P(arriving, layers_run_as_their_weights_come_and_no_step_waits_for_the_next) {
  const auto engine = open();
  ASSERT_FALSE(engine->held());
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 8)));
  const auto layers = static_cast<uint32_t>(model.config.layers);
  for (uint32_t n = 0; n <= layers; ++n) {
    weights.let_in(plan_tensors(model.config, n));
    ASSERT_NO_FATAL_FAILURE(step_to(*engine, n));
    EXPECT_EQ(engine->held()->layers, layers);
    EXPECT_FALSE(engine->idle());
  }
  EXPECT_EQ(engine->counters().steps, 0u);
  const int before = news;
  weights.let_in(weights.size());
  while (news == before) // who waits is told
    std::this_thread::yield();
  EXPECT_EQ(golden::drain(*engine)[1],
            std::vector<token_id>(model.greedy.begin(), model.greedy.begin() + 8));
  EXPECT_FALSE(engine->held());
}

TEST_P(arriving, sequences_come_and_go_while_a_step_is_held) {
  const auto engine = open();
  weights.let_in(plan_tensors(model.config, 1));
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 8)));
  ASSERT_FALSE(engine->add(golden::request(2, model.prompt, 8)));
  ASSERT_NO_FATAL_FAILURE(step_to(*engine, 1));
  engine->cancel(golden::request(1, model.prompt, 8).id);
  ASSERT_FALSE(engine->add(golden::request(3, model.prompt, 8)));
  ASSERT_NO_FATAL_FAILURE(step_to(*engine, 1));
  weights.let_in(weights.size());
  auto said = golden::drain(*engine);
  const std::vector<token_id> right(model.greedy.begin(), model.greedy.begin() + 8);
  EXPECT_FALSE(said.contains(1));
  EXPECT_EQ(said[2], right);
  EXPECT_EQ(said[3], right);
}

TEST_P(arriving, a_step_goes_on_where_it_was_held_although_others_had_its_workspace) {
  const device_share share{nullptr, std::make_shared<workspace>(*device)};
  const auto neighbour = golden::load("qwen2");
  const auto beside = [&](uint32_t step_tokens) {
    engine_options options;
    options.kv_type = dtype::f32;
    options.step_tokens_max = step_tokens;
    auto made = engine::create(neighbour.config, neighbour.lookup(), nullptr, *device, options,
                               nullptr, share);
    EXPECT_TRUE(made) << describe(made.error());
    return std::move(*made);
  };
  const auto small = beside(8);
  const auto engine = open(share);
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 8)));
  ASSERT_FALSE(small->add(golden::request(1, neighbour.prompt, 64)));
  std::vector<token_id> said;
  const auto step = [&](auto& one) {
    const auto events = one->step();
    ASSERT_TRUE(events) << describe(events.error());
    for (const auto& event : *events)
      said.push_back(event.token);
  };
  const auto layers = static_cast<uint32_t>(model.config.layers);
  for (uint32_t n = 0; n <= layers; ++n) {
    weights.let_in(plan_tensors(model.config, n));
    ASSERT_NO_FATAL_FAILURE(step_to(*engine, n));
    if (n % 2 == 0) {
      step(small);
    } else { // one comes that needs more, and goes
      const auto large = beside(4096);
      EXPECT_EQ(share.work->size_bytes(), large->memory().workspace_bytes);
    }
    EXPECT_EQ(engine->held()->layers_run, n);
  }
  weights.let_in(weights.size());
  EXPECT_EQ(golden::drain(*engine)[1],
            std::vector<token_id>(model.greedy.begin(), model.greedy.begin() + 8));
  while (!small->idle())
    step(small);
  EXPECT_EQ(said, neighbour.greedy);
}

TEST_P(arriving, a_step_waits_where_nobody_would_hear_that_it_can_go_on) {
  auto deaf = options(quantization::none);
  deaf.on_weights = nullptr;
  const auto made = engine::create(model.config, weights.lookup(), nullptr, *device, deaf);
  ASSERT_TRUE(made) << describe(made.error());
  EXPECT_EQ(run(**made), std::vector<token_id>(model.greedy.begin(), model.greedy.begin() + 8));
}

TEST_P(arriving, an_engine_can_go_before_its_weights_have_come) {
  weights.let_in(2);
  const auto engine = open(); // the end of the test does not wait for the rest
}

INSTANTIATE_TEST_SUITE_P(models, arriving,
                         testing::Values("llama_gqa_tied", "llama_mha", "qwen3", "mistral_full"));

} // namespace
} // namespace troupe::engine
