#include "tests/engine/gguf/gguf_model.hpp"

#include <algorithm>

#include <gmock/gmock.h>

#include "engine/errors.hpp"

namespace troupe::engine {
namespace {

using testing::HasSubstr;

golden::model load(const std::string& name) {
  const auto file = golden::gguf_root() / (name + ".gguf");
  if (name == "blocks")
    return golden::load_gguf(file, golden::gguf_root() / "blocks.expected.safetensors");
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
      EXPECT_EQ((*weights)->size_bytes, kept_bytes(model.config, model.lookup(), quantize,
                                                   device->best_layout(dtype::q8_0)));
    }
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
  EXPECT_EQ(layer.q.type, dtype::bf16);
  EXPECT_EQ(layer.gate.type, dtype::bf16);
}

TEST_F(gguf_blocks_model, quantizing_takes_what_has_more_bits_only) {
  const auto int8 = bind(quantization::int8);
  ASSERT_TRUE(int8);
  EXPECT_EQ(int8->layers[0].q.type, dtype::q8_0);
  EXPECT_EQ(int8->layers[0].k.type, dtype::q4_0);
  EXPECT_EQ(int8->head.type, dtype::q8_0);
  const auto int4 = bind(quantization::int4);
  ASSERT_TRUE(int4);
  EXPECT_EQ(int4->layers[0].q.type, dtype::q4_0);
  EXPECT_EQ(int4->layers[0].up.type, dtype::q4_0);
  EXPECT_EQ(int4->head.type, dtype::q8_0);
}

TEST_F(gguf_blocks_model, blocks_made_again_in_eight_bits_hardly_change_the_logits) {
  const auto changed = golden::logits_of(model, *device, quantization::int8);
  EXPECT_LE(golden::distance(changed, model.logits), 0.02f);
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
