#include <deque>

#include "engine/model/weights.hpp"
#include "storage/errors.hpp"
#include "tests/engine/model/golden_model.hpp"

/// Engines that run while their weights arrive.
namespace troupe::engine {
namespace {

/// Memory for the tensors of a model that holds NaN until a gate lets them in.
class slow_weights {
public:
  explicit slow_weights(const golden::model& model) : from_{model.lookup()} {
    for (const auto& spec : weight_plan(model.config)) {
      const auto found = *from_(spec.name);
      size_t elements = 1;
      for (const auto extent : found.shape)
        elements *= static_cast<size_t>(extent);
      order_.push_back({found.data, std::vector<char>(elements * size_of(found.type), '\xff')});
      names_[spec.name] = order_.size() - 1;
    }
  }

  weight_lookup lookup() {
    return [this](std::string_view name) -> std::optional<weight_view> {
      const auto at = names_.find(std::string{name});
      if (at == names_.end())
        return std::nullopt;
      auto out = from_(name);
      out->data = order_[at->second].bytes.data();
      out->wait = [this, needed = at->second + 1] { return gate()(needed); };
      return out;
    };
  }

  weight_gate gate() {
    return [this](size_t tensors) -> caf::error {
      asked.push_back(tensors);
      if (tensors > fails_after)
        return caf::make_error(storage::errc::corrupted, "w.safetensors: at byte 7");
      for (; there_ < tensors; ++there_)
        std::memcpy(order_[there_].bytes.data(), order_[there_].from, order_[there_].bytes.size());
      return {};
    };
  }

  size_t size() const { return order_.size(); }
  std::vector<size_t> asked;
  size_t fails_after = SIZE_MAX;

private:
  struct tensor {
    const void* from = nullptr;
    std::vector<char> bytes;
  };
  weight_lookup from_;
  std::deque<tensor> order_;
  std::map<std::string, size_t> names_;
  size_t there_ = 0;
};

class arriving : public testing::TestWithParam<std::string> {
protected:
  golden::model model = golden::load(GetParam());
  slow_weights weights{model};
  std::unique_ptr<gpu::device> device = [] {
    gpu::device_options options;
    options.threads = 2;
    options.mode = gpu::precision::float32;
    return gpu::make_cpu_device(options);
  }();
  std::unique_ptr<engine> open(quantization quantize = quantization::none) {
    engine_options options;
    options.kv_type = dtype::f32;
    options.quantize = quantize;
    auto made = engine::create(model.config, weights.lookup(), nullptr, *device, options);
    EXPECT_TRUE(made) << describe(made.error());
    (*made)->expect_weights(weights.gate());
    return std::move(*made);
  }
};

TEST_P(arriving, no_weight_is_used_before_it_was_waited_for) {
  auto engine = open();
  EXPECT_TRUE(weights.asked.empty());
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 8)));
  const auto tokens = golden::drain(*engine)[1];
  EXPECT_EQ(tokens, std::vector<token_id>(model.greedy.begin(), model.greedy.begin() + 8));
  ASSERT_EQ(weights.asked.size(), static_cast<size_t>(model.config.layers) + 2)
      << "asked again after all were there, or not layer by layer";
  EXPECT_EQ(weights.asked.front(), 1u);
  EXPECT_EQ(weights.asked.back(), weights.size());
  EXPECT_TRUE(std::is_sorted(weights.asked.begin(), weights.asked.end()));
}

TEST_P(arriving, weights_that_will_not_come_end_the_step_with_their_error) {
  weights.fails_after = plan_tensors(model.config, 1);
  auto engine = open();
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 8)));
  const auto events = engine->step();
  ASSERT_FALSE(events);
  EXPECT_EQ(describe(events.error()), "w.safetensors: at byte 7");
}

TEST_P(arriving, weights_that_are_converted_are_waited_for_while_they_are_bound) {
  auto engine = open(quantization::int8);
  EXPECT_FALSE(weights.asked.empty());
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 8)));
  const auto tokens = golden::drain(*engine)[1];
  engine_options options;
  options.kv_type = dtype::f32;
  options.quantize = quantization::int8;
  auto ready = model.open(*device, options);
  ASSERT_FALSE(ready->add(golden::request(1, model.prompt, 8)));
  EXPECT_EQ(tokens, golden::drain(*ready)[1]);
}

INSTANTIATE_TEST_SUITE_P(models, arriving,
                         testing::Values("llama_gqa_tied", "llama_mha", "qwen3", "mistral_full"));

} // namespace
} // namespace troupe::engine
