#include <cublasLt.h>

#include "engine/model/packed_weights.hpp"
#include "tests/engine/device/devices.hpp"
#include "tests/engine/model/golden_logits.hpp"

namespace troupe::engine {
namespace {

namespace emulated = cublaslt_emulation;

/// Steps of so many rows that the library multiplies them, on an emulated device.
class wide_steps : public testing::Test {
protected:
  void SetUp() override { emulated::reset(); }
  void TearDown() override {
    emulated::reset();
    cuda_emulation::set_capability(8, 0);
  }

  static std::unique_ptr<gpu::device> open(gpu::products wide = gpu::products::fastest) {
    gpu::device_options options;
    options.wide = wide;
    return test::cuda_or_null(options);
  }

  /// How far logits of 256 rows and more are from those of transformers, in parts of the largest.
  static float distance(const golden::model& model, gpu::device& device) {
    const auto copies = 255 / model.prompt.size() + 1;
    std::vector<float> want;
    for (size_t i = 0; i < copies; ++i)
      want.insert(want.end(), model.logits.begin(), model.logits.end());
    return golden::distance(
        golden::logits_of(model, device, quantization::none, static_cast<int64_t>(copies)), want);
  }

  static golden::model of_8_bit_floats() {
    auto model = golden::load_dir(golden::root().parent_path() / "packed_models" / "fp8_block");
    const auto lookup = packed_weights(model.config, model.lookup());
    EXPECT_TRUE(lookup) << describe(lookup.error());
    model.own_lookup = *lookup;
    return model;
  }
};

TEST_F(wide_steps, logits_stay_near_those_of_transformers) {
  for (const char* name : {"llama_gqa_tied", "llama_f16"}) {
    const auto device = open();
    const auto apart = distance(golden::load(name), *device);
    EXPECT_LE(apart, 0.02f) << name;
    EXPECT_GT(emulated::counted().products, 0u) << name;
    emulated::reset();
  }
}

TEST_F(wide_steps, logits_by_8_bit_floats_stay_near_those_of_transformers) {
  const auto model = of_8_bit_floats();
  const auto usual = distance(model, *open());
  EXPECT_LE(usual, 0.02f);
  EXPECT_EQ(emulated::counted().f8_products, 0u);
  cuda_emulation::set_capability(9, 0);
  const auto apart = distance(model, *open());
  EXPECT_GT(emulated::counted().f8_products, 0u);
  EXPECT_GT(apart, usual);
  EXPECT_LE(apart, 0.02f);
}

TEST_F(wide_steps, greedy_texts_are_those_of_transformers) {
  for (const bool f8 : {false, true}) {
    cuda_emulation::set_capability(f8 ? 9 : 8, 0);
    const auto model = f8 ? of_8_bit_floats() : golden::load("llama_f16");
    const auto device = open();
    engine_options options;
    options.kv_type = dtype::f32;
    options.kv_bytes = 16 << 20;
    options.reuse_prefixes = false; // so that all prompts are computed
    const auto engine = model.open(*device, options);
    ASSERT_TRUE(engine);
    for (uint64_t id = 0; id < 24; ++id)
      ASSERT_FALSE(engine->add(golden::request(id, model.prompt, 16)));
    const std::vector<token_id> want{model.greedy.begin(), model.greedy.begin() + 16};
    for (const auto& [id, text] : golden::drain(*engine))
      EXPECT_EQ(text, want) << id;
    EXPECT_GT(f8 ? emulated::counted().f8_products : emulated::counted().products, 0u);
  }
}

} // namespace
} // namespace troupe::engine
