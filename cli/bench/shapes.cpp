#include "cli/bench/shapes.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace troupe::cli::bench {
namespace {

constexpr std::string_view llama = "LlamaForCausalLM", mistral = "MistralForCausalLM",
                           qwen2 = "Qwen2ForCausalLM", qwen3 = "Qwen3ForCausalLM";

// hidden, intermediate, layers, heads, KV heads, head dimension, vocabulary, tied
constexpr shape shapes[] = {
    {"tiny", llama, 64, 192, 2, 4, 2, 16, 512, true},
    {"smollm2-135m", llama, 576, 1536, 30, 9, 3, 64, 49152, true},
    {"smollm2-360m", llama, 960, 2560, 32, 15, 5, 64, 49152, true},
    {"smollm2-1.7b", llama, 2048, 8192, 24, 32, 32, 64, 49152, true},
    {"llama-3.2-1b", llama, 2048, 8192, 16, 32, 8, 64, 128256, true},
    {"llama-3.2-3b", llama, 3072, 8192, 28, 24, 8, 128, 128256, true},
    {"llama-3.1-8b", llama, 4096, 14336, 32, 32, 8, 128, 128256, false},
    {"mistral-7b", mistral, 4096, 14336, 32, 32, 8, 128, 32768, false},
    {"qwen2.5-0.5b", qwen2, 896, 4864, 24, 14, 2, 64, 151936, true},
    {"qwen2.5-1.5b", qwen2, 1536, 8960, 28, 12, 2, 128, 151936, true},
    {"qwen2.5-3b", qwen2, 2048, 11008, 36, 16, 2, 128, 151936, true},
    {"qwen2.5-7b", qwen2, 3584, 18944, 28, 28, 4, 128, 152064, false},
    {"qwen3-0.6b", qwen3, 1024, 3072, 28, 16, 8, 128, 151936, true},
    {"qwen3-1.7b", qwen3, 2048, 6144, 28, 16, 8, 128, 151936, true},
    {"qwen3-4b", qwen3, 2560, 9728, 36, 32, 8, 128, 151936, true},
    {"qwen3-8b", qwen3, 4096, 12288, 36, 32, 8, 128, 151936, false},
};

} // namespace

std::span<const shape> all_shapes() { return shapes; }

const shape* find_shape(std::string_view name) {
  const auto* at = std::ranges::find(shapes, name, &shape::name);
  return at == std::end(shapes) ? nullptr : at;
}

std::string config_json(const shape& of, dtype type) {
  return nlohmann::ordered_json{
      {"architectures", {of.architecture}},
      {"hidden_size", of.hidden},
      {"intermediate_size", of.intermediate},
      {"num_hidden_layers", of.layers},
      {"num_attention_heads", of.heads},
      {"num_key_value_heads", of.kv_heads},
      {"head_dim", of.head_dim},
      {"vocab_size", of.vocabulary},
      {"tie_word_embeddings", of.tied},
      {"max_position_embeddings", 32768},
      {"rope_theta", 500000.0},
      {"rms_norm_eps", 1e-5},
      {"torch_dtype", type == dtype::f32   ? "float32"
                      : type == dtype::f16 ? "float16"
                                           : "bfloat16"},
  }
      .dump(2);
}

} // namespace troupe::cli::bench
