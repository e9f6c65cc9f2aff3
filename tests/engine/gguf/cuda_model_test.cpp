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

struct outcome {
  std::map<uint64_t, std::vector<token_id>> texts;
  uint64_t swapped = 0;
};

/// Three texts over an int8 cache of so many blocks of four tokens.
outcome run_over_int8(const golden::model& model, gpu::device& device, uint64_t blocks) {
  engine_options options;
  options.kv_type = dtype::i8;
  options.block_size = 4;
  options.preempt = preemption::swap;
  options.kv_bytes = plan_kv(model.config, dtype::bf16, options).block_bytes * blocks;
  const auto engine = model.open(device, options);
  EXPECT_TRUE(engine);
  for (uint64_t id = 1; engine && id <= 3; ++id) {
    auto prompt = model.prompt; // none shares a block with another one
    prompt[0] = static_cast<token_id>(id);
    EXPECT_FALSE(engine->add(golden::request(id, prompt, 24, 0.8f, id)));
  }
  outcome out;
  if (engine)
    out = {golden::drain(*engine), engine->counters().swapped};
  return out;
}

// Blocks that go to the host and come back bring their scales along.
TEST_P(cuda_model_test, an_int8_cache_says_the_same_when_sequences_are_swapped) {
  const auto device = cuda_device(gpu::precision::automatic);
  const auto calm = run_over_int8(model, *device, 1000);
  const auto swapped = run_over_int8(model, *device, (model.prompt.size() + 24) / 4 + 6);
  EXPECT_EQ(calm.swapped, 0u);
  EXPECT_GT(swapped.swapped, 0u);
  EXPECT_EQ(swapped.texts, calm.texts);
}

} // namespace
} // namespace troupe::engine
