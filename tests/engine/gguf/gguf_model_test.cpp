#include "tests/engine/gguf/gguf_model.hpp"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>

#include "engine/errors.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "tests/engine/model/true_copy.hpp"

namespace troupe::engine {
namespace {

using testing::HasSubstr;

golden::model load(const std::string& name) {
  const auto file = golden::gguf_root() / (name + ".gguf");
  const auto own = golden::gguf_root() / (name + ".expected.safetensors");
  if (std::filesystem::exists(own))
    return golden::load_gguf(file, own);
  const auto same = name.starts_with("split-") ? "llama_gqa_tied" : name;
  return golden::load_gguf(file, golden::root() / same / "expected.safetensors");
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(golden::gguf_root()))
    if (entry.path().extension() == ".gguf")
      out.push_back(entry.path().stem().string());
  std::sort(out.begin(), out.end());
  return out;
}

class gguf_model : public testing::TestWithParam<std::string> {
protected:
  golden::model model = load(GetParam());
};

INSTANTIATE_TEST_SUITE_P(files, gguf_model, testing::ValuesIn(names()), [](const auto& one) {
  auto name = one.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(gguf_model, logits_equal_those_of_transformers_within_1e_4) {
  golden::expect_the_logits_of_transformers(model);
}

TEST_P(gguf_model, sixty_four_greedy_tokens_equal_those_of_transformers) {
  golden::expect_the_greedy_text_of_transformers(model);
}

TEST_P(gguf_model, the_bytes_kept_are_those_foretold) {
  for (const auto quantize : {quantization::none, quantization::int8, quantization::int4})
    for (const bool exact : {true, false}) {
      const auto device = exact ? golden::exact_device() : gpu::make_cpu_device();
      const auto weights = model_weights::bind(model.config, model.lookup(), *device, quantize);
      ASSERT_TRUE(weights) << describe(weights.error());
      EXPECT_EQ((*weights)->size_bytes,
                kept_bytes(model.config, model.lookup(), quantize, device.get()));
    }
}

TEST_P(gguf_model, another_device_copies_every_weight_bit_for_bit) {
  for (const auto quantize : {quantization::none, quantization::int4})
    golden::expect_a_true_copy(model, *gpu::make_cpu_device(), *gpu::make_cpu_device(), quantize);
}

class gguf_blocks_model : public testing::Test {
protected:
  golden::model model = load("blocks");
  std::unique_ptr<gpu::device> device = golden::exact_device();

  std::unique_ptr<model_weights> bind(quantization quantize) {
    auto out = model_weights::bind(model.config, model.lookup(), *device, quantize);
    EXPECT_TRUE(out) << describe(out.error());
    return out ? std::move(*out) : nullptr;
  }
};

TEST_F(gguf_blocks_model, blocks_that_devices_compute_with_are_used_as_they_lie_in_the_file) {
  const auto weights = bind(quantization::none);
  ASSERT_TRUE(weights);
  const auto& layer = weights->layers[0];
  const auto up = model.checkpoint->find("blk.0.ffn_up.weight");
  EXPECT_EQ(layer.up.type, dtype::q8_0);
  EXPECT_EQ(layer.up.data, up->bytes.data());
  EXPECT_EQ(weights->embedding.type, dtype::q8_0);
  EXPECT_EQ(layer.k.type, dtype::q4_0); // in another order, but the same blocks
  EXPECT_EQ(layer.q.type, dtype::q4_k);
  EXPECT_EQ(layer.gate.type, dtype::q4_1);
}

/// Takes q8_0 and q4_0 alone, the least that a device does.
class few_types final : public gpu::cpu::cpu_device {
public:
  few_types() : cpu_device{{2, gpu::precision::float32, "", 0}} {}
  bool takes(dtype type) const override { return gpu::device::takes(type); }
};

TEST_F(gguf_blocks_model, what_a_device_does_not_take_is_decoded_for_it) {
  device = std::make_unique<few_types>();
  const auto weights = bind(quantization::none);
  ASSERT_TRUE(weights);
  EXPECT_EQ(weights->layers[0].up.type, dtype::q8_0);
  EXPECT_EQ(weights->layers[0].q.type, dtype::bf16);
  EXPECT_EQ(weights->head.type, dtype::bf16);
  EXPECT_EQ(weights->size_bytes,
            kept_bytes(model.config, model.lookup(), quantization::none, device.get()));
  // Rounding to bf16 costs 2^-9 of a weight.
  EXPECT_LE(golden::distance(golden::logits_of(model, *device), model.logits), 0.01f);
}

TEST_F(gguf_blocks_model, weights_stay_as_small_as_in_the_file) {
  for (const auto* name : {"blocks", "q4_k_m"}) {
    model = load(name);
    uint64_t file = 0;
    for (const auto& one : weight_plan(model.config)) {
      const auto found = model.lookup()(one.name);
      ASSERT_TRUE(found) << one.name;
      uint64_t elements = 1;
      for (const auto extent : found->shape)
        elements *= static_cast<uint64_t>(extent);
      file += bytes_of(found->type, elements);
    }
    for (const bool exact : {true, false}) {
      device = exact ? golden::exact_device() : gpu::make_cpu_device();
      const auto weights = bind(quantization::none);
      ASSERT_TRUE(weights);
      EXPECT_EQ(weights->size_bytes, file) << name << " " << device->name();
    }
  }
}

/// The root mean square of the differences, in parts of that of `want`.
double mean_distance(const std::vector<float>& got, const std::vector<float>& want) {
  double apart = 0, all = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    apart += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
    all += double{want[i]} * want[i];
  }
  return std::sqrt(apart / all);
}

// Rounding activations to 8 bits is all that separates products of bytes from the file's meaning.
TEST_F(gguf_blocks_model, products_of_bytes_stay_near_transformers) {
  for (const auto* name : {"blocks", "q4_k_m"})
    for (const auto& isa : gpu::cpu_isas()) {
      model = load(name);
      device = gpu::make_cpu_device({2, gpu::precision::automatic, isa, 0});
      const auto apart = mean_distance(golden::logits_of(model, *device), model.logits);
      EXPECT_LE(apart, 0.02) << name << " " << isa;
      EXPECT_GT(apart, 1e-4) << name << " " << isa; // or they were not computed so
    }
}

TEST_F(gguf_blocks_model, a_tied_embedding_is_held_once) {
  model = load("q4_k_m");
  device = gpu::make_cpu_device();
  const auto weights = bind(quantization::none);
  ASSERT_TRUE(weights);
  EXPECT_EQ(weights->embedding.type, dtype::q6_k);
  EXPECT_EQ(weights->embedding.layout, gpu::weight_layout::panels);
  EXPECT_EQ(weights->head.data, weights->embedding.data);
}

TEST_F(gguf_blocks_model, quantizing_takes_what_has_more_bits_only) {
  const auto int8 = bind(quantization::int8);
  ASSERT_TRUE(int8);
  EXPECT_EQ(int8->layers[0].q.type, dtype::q4_k);
  EXPECT_EQ(int8->layers[0].k.type, dtype::q4_0);
  EXPECT_EQ(int8->head.type, dtype::q6_k);
  const auto int4 = bind(quantization::int4);
  ASSERT_TRUE(int4);
  EXPECT_EQ(int4->layers[0].q.type, dtype::q4_k);
  EXPECT_EQ(int4->layers[0].o.type, dtype::q4_0);
  EXPECT_EQ(int4->layers[0].up.type, dtype::q4_0);
  EXPECT_EQ(int4->head.type, dtype::q6_k);
}

TEST_F(gguf_blocks_model, blocks_made_again_in_four_bits_stay_near) {
  const auto changed = golden::logits_of(model, *device, quantization::int4);
  EXPECT_LE(golden::distance(changed, model.logits), 0.3f);
  EXPECT_GT(golden::distance(changed, model.logits), 1e-5f); // or nothing was quantized
}

/// What is wrong with a description that `change` spoiled.
template <class Change>
std::string complaint(Change change) {
  const auto file = golden::gguf_root() / "qwen2.gguf";
  auto head = storage::gguf_head::read_first(file);
  auto opened = storage::checkpoint::open(file);
  EXPECT_TRUE(head && opened);
  auto values = head->header().values;
  change(values);
  const auto config = gguf_model_config({values, actors::weight_views(**opened), "m.gguf"});
  EXPECT_FALSE(config);
  return config ? "" : describe(config.error());
}

TEST(gguf_config, what_is_not_supported_is_said_with_what_is) {
  const auto with = [](std::string_view name, metadata_value value) {
    return complaint([&](metadata& values) { values[name] = value; });
  };
  EXPECT_THAT(
      with("general.architecture", std::string_view{"gemma"}),
      HasSubstr("m.gguf: general.architecture is 'gemma', which is not supported; supported "
                "are llama, qwen2, qwen3"));
  EXPECT_THAT(with("qwen2.rope.scaling.type", std::string_view{"longrope"}),
              HasSubstr("qwen2.rope.scaling.type is 'longrope', but supported are none, linear"));
  EXPECT_THAT(with("qwen2.expert_count", uint64_t{8}), HasSubstr("mixtures of experts"));
  EXPECT_THAT(with("qwen2.attention.head_count_kv", metadata_list{std::vector<uint64_t>{2, 1}}),
              HasSubstr("differs between layers"));
  EXPECT_THAT(with("qwen2.block_count", int64_t{-1}), HasSubstr("qwen2.block_count"));
  EXPECT_THAT(with("qwen2.block_count", std::string_view{"two"}), HasSubstr("qwen2.block_count"));
  EXPECT_THAT(with("qwen2.attention.key_length", uint64_t{7}), HasSubstr("even number"));
  EXPECT_THAT(with("qwen2.rope.dimension_count", uint64_t{4}), HasSubstr("a part of each head"));
  EXPECT_THAT(complaint([](metadata& values) { values.erase("qwen2.embedding_length"); }),
              HasSubstr("qwen2.embedding_length"));
  EXPECT_THAT(complaint([](metadata& values) { values.clear(); }),
              HasSubstr("general.architecture is missing"));
}

TEST(gguf_config, one_number_for_all_layers_may_be_a_list) {
  const auto file = golden::gguf_root() / "qwen2.gguf";
  auto head = storage::gguf_head::read_first(file);
  auto opened = storage::checkpoint::open(file);
  ASSERT_TRUE(head && opened);
  auto values = head->header().values;
  values["qwen2.attention.head_count_kv"] = metadata_list{std::vector<uint64_t>{2, 2}};
  const auto config = gguf_model_config({values, actors::weight_views(**opened), "m.gguf"});
  ASSERT_TRUE(config) << describe(config.error());
  EXPECT_EQ(config->kv_heads, 2);
}

} // namespace
} // namespace troupe::engine
