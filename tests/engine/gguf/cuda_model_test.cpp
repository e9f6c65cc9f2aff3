#include "tests/engine/gguf/gguf_model.hpp"

/// GGUF models on an emulated CUDA device: the kernels that a GPU runs, as plain C++.
namespace troupe::engine {
namespace {

std::unique_ptr<gpu::device> cuda_device(gpu::precision mode) {
  gpu::device_options options;
  options.mode = mode;
  auto made = gpu::make_cuda_device(0, options);
  EXPECT_TRUE(made) << describe(made.error());
  return made ? std::move(*made) : nullptr;
}

golden::model load(const std::string& name) {
  return golden::load_gguf(golden::gguf_root() / (name + ".gguf"),
                           golden::gguf_root() / (name + ".expected.safetensors"));
}

/// Two files that have every type of blocks between them.
class cuda_model_test : public testing::TestWithParam<const char*> {
protected:
  golden::model model = load(GetParam());
};

INSTANTIATE_TEST_SUITE_P(files, cuda_model_test, testing::Values("blocks", "q4_k_m"),
                         [](const auto& one) { return std::string{one.param}; });

TEST_P(cuda_model_test, logits_in_float_equal_those_of_transformers) {
  const auto device = cuda_device(gpu::precision::float32);
  EXPECT_LE(golden::distance(golden::logits_of(model, *device), model.logits), 1e-4f);
}

// Tensor cores round weights and activations to bf16.
TEST_P(cuda_model_test, logits_on_tensor_cores_stay_near_those_of_transformers) {
  const auto device = cuda_device(gpu::precision::automatic);
  const auto apart = golden::distance(golden::logits_of(model, *device), model.logits);
  EXPECT_LE(apart, 0.02f);
  EXPECT_GT(apart, 1e-5f); // or they were not computed so
}

TEST_P(cuda_model_test, greedy_tokens_in_float_equal_those_of_transformers) {
  const auto device = cuda_device(gpu::precision::float32);
  engine_options options;
  options.kv_type = dtype::f32;
  options.kv_bytes = 1 << 20;
  const auto engine = model.open(*device, options);
  ASSERT_TRUE(engine);
  ASSERT_FALSE(engine->add(golden::request(1, model.prompt, 64)));
  EXPECT_EQ(golden::drain(*engine)[1], model.greedy);
}

TEST_P(cuda_model_test, weights_take_the_memory_that_they_take_in_the_file) {
  const auto device = cuda_device(gpu::precision::automatic);
  const auto weights =
      model_weights::bind(model.config, model.lookup(), *device, quantization::none);
  ASSERT_TRUE(weights) << describe(weights.error());
  uint64_t file = 0;
  for (const auto& one : weight_plan(model.config)) {
    const auto found = model.lookup()(one.name);
    ASSERT_TRUE(found) << one.name;
    uint64_t elements = 1;
    for (const auto extent : found->shape)
      elements *= static_cast<uint64_t>(extent);
    file += bytes_of(found->type, elements);
  }
  EXPECT_EQ((*weights)->size_bytes, file);
  EXPECT_EQ(kept_bytes(model.config, model.lookup(), quantization::none, device.get()), file);
}

} // namespace
} // namespace troupe::engine
