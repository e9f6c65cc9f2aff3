#include "engine/model/model_config.hpp"

#include <array>
#include <cmath>
#include <utility>

#include "engine/model/json_fields.hpp"
#include "engine/model/limits.hpp"
#include "engine/model/packed_fields.hpp"
#include "engine/model/rope_fields.hpp"

namespace troupe::engine {

namespace {

using namespace limits;

struct architecture_row {
  std::string_view name;
  architecture arch;
};
constexpr std::array<architecture_row, 4> architectures{{
    {"LlamaForCausalLM", architecture::llama},
    {"MistralForCausalLM", architecture::mistral},
    {"Qwen2ForCausalLM", architecture::qwen2},
    {"Qwen3ForCausalLM", architecture::qwen3},
}};

void read_architecture(json_fields& fields, model_config& config) {
  const auto names = fields.strings("architectures", 16);
  for (const auto& name : names)
    for (const auto& row : architectures)
      if (name == row.name) {
        config.arch = row.arch;
        return;
      }
  std::string supported;
  for (const auto& row : architectures)
    supported += (supported.empty() ? "" : ", ") + std::string{row.name};
  if (names.empty())
    fields.fail("architectures", "is missing; supported are " + supported);
  else
    fields.fail("architectures",
                "names " + names.front().substr(0, 60) + ", but supported are " + supported,
                errc::unsupported);
}

void read_dimensions(json_fields& fields, model_config& config) {
  config.vocab_size = fields.required_integer("vocab_size", 1, vocab_max);
  config.hidden_size = fields.required_integer("hidden_size", 1, width_max);
  config.intermediate_size = fields.required_integer("intermediate_size", 1, width_max * 4);
  config.layers = fields.required_integer("num_hidden_layers", 1, layers_max);
  config.heads = fields.required_integer("num_attention_heads", 1, heads_max);
  config.kv_heads = fields.integer_or("num_key_value_heads", config.heads, 1, heads_max);
  if (config.heads % config.kv_heads != 0)
    fields.fail("num_key_value_heads", "(" + std::to_string(config.kv_heads) +
                                           ") must divide num_attention_heads (" +
                                           std::to_string(config.heads) + ")");
  // Qwen3 alone has a fixed default; the others share the hidden size among the heads.
  if (const auto head_dim = fields.integer("head_dim", 2, head_dim_max))
    config.head_dim = *head_dim;
  else if (config.arch == architecture::qwen3)
    config.head_dim = 128;
  else if (config.hidden_size % config.heads == 0)
    config.head_dim = config.hidden_size / config.heads;
  else
    fields.fail("num_attention_heads",
                "(" + std::to_string(config.heads) + ") must divide hidden_size (" +
                    std::to_string(config.hidden_size) + ") when head_dim is not given");
  if (config.head_dim % 2 != 0 || config.head_dim > head_dim_max)
    fields.fail("head_dim", "must be an even number up to " + std::to_string(head_dim_max) +
                                ", not " + std::to_string(config.head_dim));
}

int64_t default_context(architecture arch) {
  switch (arch) {
  case architecture::llama:
    return 2048;
  case architecture::mistral:
    return 131072;
  case architecture::qwen2:
  case architecture::qwen3:
    break;
  }
  return 32768;
}

void read_activation(json_fields& fields, model_config& config) {
  static constexpr std::array<std::pair<std::string_view, gpu::activation>, 7> known{{
      {"silu", gpu::activation::silu},
      {"swish", gpu::activation::silu},
      {"gelu", gpu::activation::gelu},
      {"gelu_new", gpu::activation::gelu_tanh},
      {"gelu_pytorch_tanh", gpu::activation::gelu_tanh},
      {"gelu_fast", gpu::activation::gelu_tanh},
      {"relu", gpu::activation::relu},
  }};
  const auto name = fields.string("hidden_act");
  if (!name)
    return;
  for (const auto& [key, act] : known)
    if (*name == key) {
      config.hidden_act = act;
      return;
    }
  fields.fail("hidden_act",
              "is \"" + name->substr(0, 60) +
                  "\", but supported are silu, gelu, gelu_new, gelu_pytorch_tanh and relu",
              errc::unsupported);
}

/// Which layers see only the last `sliding_window` positions.
void read_windows(json_fields& fields, model_config& config) {
  config.windows.assign(static_cast<size_t>(config.layers), 0);
  if (config.arch == architecture::llama)
    return;
  const bool qwen = config.arch != architecture::mistral;
  if (qwen && !fields.boolean_or("use_sliding_window", false))
    return;
  // A Mistral config that leaves the key out means 4096; null means no window at all.
  if (!qwen && fields.explicit_null("sliding_window"))
    return;
  const auto window = fields.integer_or("sliding_window", 4096, 1, context_max);
  const auto types = qwen ? fields.strings("layer_types", layers_max) : std::vector<std::string>{};
  if (!types.empty() && types.size() != config.windows.size()) {
    fields.fail("layer_types", "lists " + std::to_string(types.size()) +
                                   " layers, but the model has " + std::to_string(config.layers));
    return;
  }
  const auto first = qwen ? fields.integer_or("max_window_layers", 28, 0, width_max) : 0;
  for (size_t i = 0; i < config.windows.size(); ++i) {
    bool slides = static_cast<int64_t>(i) >= first;
    if (!types.empty()) {
      slides = types[i] == "sliding_attention";
      if (!slides && types[i] != "full_attention")
        fields.fail("layer_types",
                    "holds \"" + types[i].substr(0, 60) +
                        "\", but supported are full_attention and sliding_attention",
                    errc::unsupported);
    }
    config.windows[i] = slides ? window : 0;
  }
}

void read_biases(json_fields& fields, model_config& config) {
  switch (config.arch) {
  case architecture::llama:
    config.qkv_bias = config.output_bias = fields.boolean_or("attention_bias", false);
    config.mlp_bias = fields.boolean_or("mlp_bias", false);
    break;
  case architecture::mistral:
    break;
  case architecture::qwen2: // always there, whatever the file says
    config.qkv_bias = true;
    break;
  case architecture::qwen3:
    config.qkv_bias = config.output_bias = fields.boolean_or("attention_bias", false);
    config.qk_norm = true;
    break;
  }
}

void read_dtype(json_fields& fields, model_config& config) {
  auto name = fields.string("dtype");
  if (!name)
    name = fields.string("torch_dtype");
  if (!name)
    return;
  if (name->starts_with("torch."))
    name->erase(0, 6);
  if (*name == "float32")
    config.type = dtype::f32;
  else if (*name == "float16")
    config.type = dtype::f16;
  else if (*name == "bfloat16")
    config.type = dtype::bf16;
  // Anything else: the tensors themselves decide.
}

void read_special_tokens(json_fields& fields, model_config& config) {
  config.eos_token_ids = fields.ids("eos_token_id", vocab_max);
  const auto bos = fields.ids("bos_token_id", vocab_max);
  if (!bos.empty())
    config.bos_token_id = bos.front();
  // Some published files name tokens beyond their own vocabulary: they can never be produced.
  std::erase_if(config.eos_token_ids, [&](token_id id) { return id >= config.vocab_size; });
}

} // namespace

std::string_view to_string(architecture arch) {
  for (const auto& row : architectures)
    if (row.arch == arch)
      return row.name;
  return "?";
}

caf::expected<model_config> parse_model_config(std::string_view json, std::string_view origin) {
  auto document = parse_json_object(json, origin);
  if (!document)
    return std::move(document.error());
  json_fields fields{*document, std::string{origin}};
  model_config config;
  read_architecture(fields, config);
  if (!fields.ok()) // the meaning of all else depends on it
    return fields.error();
  config.packed = read_packed(fields, std::string{origin});
  read_dimensions(fields, config);
  config.context_length =
      fields.integer_or("max_position_embeddings", default_context(config.arch), 1, context_max);
  config.rms_norm_eps = static_cast<float>(fields.number_or("rms_norm_eps", 1e-6, 0.0, 1.0));
  read_activation(fields, config);
  config.rope = read_rope(fields, std::string{origin}, config.context_length, config.head_dim);
  if (fields.ok()) // a bad layer count must not size anything
    read_windows(fields, config);
  read_biases(fields, config);
  config.tied_embeddings = fields.boolean_or("tie_word_embeddings", false);
  read_dtype(fields, config);
  read_special_tokens(fields, config);
  if (!fields.ok())
    return fields.error();
  return config;
}

} // namespace troupe::engine
