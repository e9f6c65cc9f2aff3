#include "engine/gguf/config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "engine/gguf/end_tokens.hpp"
#include "engine/model/json_fields.hpp"
#include "engine/model/limits.hpp"

namespace troupe::engine {

namespace {

using namespace limits;

struct architecture_row {
  std::string_view name;
  architecture arch;
};
/// Mistral models come as "llama".
constexpr std::array<architecture_row, 3> architectures{{
    {"llama", architecture::llama},
    {"qwen2", architecture::qwen2},
    {"qwen3", architecture::qwen3},
}};

/// Numbers and texts of the metadata as a JSON object, so that they are read with the same checks
/// as a config.json; the tokenizer's are left out.
nlohmann::json scalars_of(const metadata& values) {
  auto out = nlohmann::json::object();
  for (const auto& [name, value] : values) {
    if (name.starts_with("tokenizer."))
      continue;
    auto& to = out[std::string{name}];
    if (const auto* list = std::get_if<metadata_list>(&value))
      std::visit(
          [&](const auto& items) {
            // One value per layer is the longest that means anything here.
            to = nlohmann::json::array();
            for (size_t i = 0; i < std::min<size_t>(items.size(), layers_max); ++i)
              to.push_back(items[i]);
          },
          *list);
    else
      std::visit(
          [&](const auto& x) {
            if constexpr (!std::is_same_v<std::decay_t<decltype(x)>, metadata_list>)
              to = x;
          },
          value);
  }
  return out;
}

class config_reader {
public:
  explicit config_reader(const gguf_source& source)
      : source_{source}, scalars_(scalars_of(source.values)), fields_{scalars_, source.origin} {}

  caf::expected<model_config> run() {
    read_architecture();
    if (!fields_.ok()) // the names of all else depend on it
      return fields_.error();
    read_dimensions();
    if (!fields_.ok()) // sizes what follows
      return fields_.error();
    read_rope();
    read_tensors();
    if (!fields_.ok())
      return fields_.error();
    out_.bos_token_id = gguf_bos_token(source_.values, out_.vocab_size);
    out_.eos_token_ids = gguf_end_tokens(source_.values, out_.vocab_size);
    return std::move(out_);
  }

private:
  /// The full name of a key of this architecture; valid until the next call.
  const char* key(const char* name) {
    key_ = arch_name_ + "." + name;
    return key_.c_str();
  }

  void read_architecture() {
    const auto name = fields_.string("general.architecture");
    std::string supported;
    for (const auto& row : architectures) {
      if (name == row.name) {
        out_.arch = row.arch;
        arch_name_ = row.name;
        return;
      }
      supported += (supported.empty() ? "" : ", ") + std::string{row.name};
    }
    if (!name)
      return fields_.fail("general.architecture", "is missing: this is no model");
    fields_.fail("general.architecture",
                 "is '" + name->substr(0, 60) + "', which is not supported; supported are " +
                     supported,
                 errc::unsupported);
  }

  /// One number for all layers, or a list that says the same for each.
  int64_t same_in_all_layers(const char* name, std::optional<int64_t> otherwise, int64_t max) {
    const auto* path = key(name);
    const auto found = scalars_.find(path);
    if (found == scalars_.end() || !found->is_array() || found->empty())
      return otherwise ? fields_.integer_or(path, *otherwise, 1, max)
                       : fields_.required_integer(path, 1, max);
    if (std::adjacent_find(found->begin(), found->end(), std::not_equal_to<>{}) != found->end()) {
      fields_.fail(path, "differs between layers, which is not supported", errc::unsupported);
      return 1;
    }
    const auto one = found->front();
    if (one.is_number_integer() && one >= 1 && one <= max)
      return one.get<int64_t>();
    fields_.fail(path, "must be a number from 1 to " + std::to_string(max));
    return 1;
  }

  void read_dimensions() {
    out_.context_length = fields_.required_integer(key("context_length"), 1, context_max);
    out_.hidden_size = fields_.required_integer(key("embedding_length"), 1, width_max);
    out_.layers = fields_.required_integer(key("block_count"), 1, layers_max);
    out_.intermediate_size = same_in_all_layers("feed_forward_length", {}, width_max * 4);
    out_.heads = same_in_all_layers("attention.head_count", {}, heads_max);
    out_.kv_heads = same_in_all_layers("attention.head_count_kv", out_.heads, heads_max);
    if (fields_.ok() && out_.heads % out_.kv_heads != 0)
      fields_.fail(key("attention.head_count_kv"), "must divide attention.head_count");
    out_.rms_norm_eps = static_cast<float>(
        fields_.required_number(key("attention.layer_norm_rms_epsilon"), 0.0, 1.0));
    if (fields_.integer_or(key("expert_count"), 0, 0, width_max) > 0)
      fields_.fail(key("expert_count"), "is set, but mixtures of experts are not supported",
                   errc::unsupported);
    if (!fields_.ok())
      return;
    const auto head_dim = fields_.integer(key("attention.key_length"), 2, head_dim_max);
    if (!head_dim && out_.hidden_size % out_.heads != 0)
      fields_.fail(key("attention.head_count"), "must divide embedding_length");
    out_.head_dim = head_dim.value_or(out_.hidden_size / out_.heads);
    if (out_.head_dim % 2 != 0 || out_.head_dim > head_dim_max)
      fields_.fail(key("attention.key_length"),
                   "must be an even number up to 4096, not " + std::to_string(out_.head_dim));
    if (fields_.integer_or(key("attention.value_length"), out_.head_dim, 1, width_max) !=
        out_.head_dim)
      fields_.fail(key("attention.value_length"),
                   "differs from attention.key_length, which is not supported", errc::unsupported);
    read_window();
  }

  void read_window() {
    const auto window = fields_.integer_or(key("attention.sliding_window"), 0, 0, context_max);
    out_.windows.assign(static_cast<size_t>(out_.layers), window);
    if (window > 0 && fields_.has(key("attention.sliding_window_pattern")))
      fields_.fail(key("attention.sliding_window_pattern"), "is set, which is not supported",
                   errc::unsupported);
  }

  void read_rope() {
    auto& rope = out_.rope;
    rope.theta = fields_.number_or(key("rope.freq_base"), 10000.0, 1.001, rope_theta_max);
    const auto rotated =
        fields_.integer_or(key("rope.dimension_count"), out_.head_dim, 2, head_dim_max);
    if (rotated != out_.head_dim)
      fields_.fail(key("rope.dimension_count"),
                   "is " + std::to_string(rotated) + " of " + std::to_string(out_.head_dim) +
                       ", but rotating a part of each head is not supported",
                   errc::unsupported);
    rope.original_context =
        fields_.number_or(key("rope.scaling.original_context_length"),
                          static_cast<double>(out_.context_length), 1, context_max);
    const auto old_factor = fields_.number_or(key("rope.scale_linear"), 0.0, 0.0, rope_factor_max);
    const auto factor =
        fields_.number_or(key("rope.scaling.factor"), old_factor, 0.0, rope_factor_max);
    rope.factor = factor > 0 ? factor : 1.0; // 0 stands for "not set"
    const auto kind = fields_.string(key("rope.scaling.type")).value_or("linear");
    if (kind == "yarn")
      read_yarn();
    else if (kind == "linear")
      rope.kind = rope.factor == 1.0 ? rope_kind::plain : rope_kind::linear;
    else if (kind != "none")
      fields_.fail(key("rope.scaling.type"),
                   "is '" + kind.substr(0, 60) + "', but supported are none, linear and yarn",
                   errc::unsupported);
    read_divisors();
  }

  void read_yarn() {
    auto& rope = out_.rope;
    rope.kind = rope_kind::yarn;
    rope.beta_fast = fields_.number_or(key("rope.scaling.yarn_beta_fast"), 32.0, 0.0, 1e6);
    rope.beta_slow = fields_.number_or(key("rope.scaling.yarn_beta_slow"), 1.0, 0.0, 1e6);
    // Here it comes on top of what the stretch asks for; in a config.json it replaces that.
    const auto more = fields_.number_or(key("rope.scaling.yarn_attn_factor"), 1.0, 1e-6, 1e3);
    rope.attention_factor = more * (rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0);
  }

  /// Llama 3 stretches long waves more than short ones; the file says by how much.
  void read_divisors() {
    const auto found = source_.tensors("rope_freqs.weight");
    if (!found)
      return;
    const auto pairs = static_cast<size_t>(out_.head_dim / 2);
    if (found->type != dtype::f32 || found->data == nullptr ||
        found->shape != std::vector<int64_t>{static_cast<int64_t>(pairs)})
      return fail_tensor("rope_freqs.weight",
                         "must hold " + std::to_string(pairs) + " values of type f32");
    out_.rope.divisors.resize(pairs);
    std::memcpy(out_.rope.divisors.data(), found->data, pairs * sizeof(float));
    for (const auto x : out_.rope.divisors)
      if (!(x > 1e-6f && x < 1e6f))
        return fail_tensor("rope_freqs.weight", "holds a factor that makes no sense");
  }

  void fail_tensor(const char* name, const std::string& what) {
    fields_.fail((std::string{"tensor "} + name).c_str(), what);
  }

  bool has(const char* tensor) const { return source_.tensors(tensor).has_value(); }

  void read_tensors() {
    const auto embedding = source_.tensors("token_embd.weight");
    if (!embedding || embedding->shape.size() != 2 || embedding->shape[0] > vocab_max ||
        embedding->shape[0] < 1)
      return fail_tensor("token_embd.weight", "is missing or is no matrix");
    out_.vocab_size = embedding->shape[0];
    out_.type = is_blocks(embedding->type) ? dtype::bf16 : embedding->type;
    out_.tied_embeddings = !has("output.weight");
    out_.qkv_bias = has("blk.0.attn_q.bias");
    out_.output_bias = has("blk.0.attn_output.bias");
    out_.mlp_bias = has("blk.0.ffn_down.bias");
    out_.qk_norm = has("blk.0.attn_q_norm.weight");
  }

  const gguf_source& source_;
  const nlohmann::json scalars_;
  json_fields fields_;
  std::string arch_name_, key_;
  model_config out_;
};

} // namespace

caf::expected<model_config> gguf_model_config(const gguf_source& source) {
  return config_reader(source).run();
}

} // namespace troupe::engine
