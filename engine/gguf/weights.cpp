#include "engine/gguf/weights.hpp"

#include <array>
#include <cstring>
#include <utility>

namespace troupe::engine {

namespace {

using name_row = std::pair<std::string_view, std::string_view>;

constexpr std::array<name_row, 3> outer_names{{
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
}};

/// Within a layer; ".weight" or ".bias" follows.
constexpr std::array<name_row, 11> layer_names{{
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
}};

/// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; empty if there is no such name.
std::string gguf_name(std::string_view name) {
  for (const auto& [theirs, ours] : outer_names)
    if (name == theirs)
      return std::string{ours};
  constexpr std::string_view prefix = "model.layers.";
  if (!name.starts_with(prefix))
    return {};
  name.remove_prefix(prefix.size());
  const auto number = name.substr(0, name.find('.'));
  const auto kind = name.rfind('.');
  if (number.size() >= kind)
    return {};
  const auto inner = name.substr(number.size() + 1, kind - number.size() - 1);
  for (const auto& [theirs, ours] : layer_names)
    if (inner == theirs)
      return "blk." + std::string{number} + "." + std::string{ours} +
             std::string{name.substr(kind)};
  return {};
}

bool is_rotated(std::string_view name) {
  return name.find(".self_attn.q_proj.") != std::string_view::npos ||
         name.find(".self_attn.k_proj.") != std::string_view::npos;
}

/// Row `row` of the usual order stands here in the file: in a head of `dim` rows, those of the
/// first half are the even ones and those of the second half the odd ones.
int64_t row_in_file(int64_t row, int64_t dim) {
  const auto head = row / dim * dim, at = row % dim, half = dim / 2;
  return head + (at < half ? 2 * at : 2 * (at - half) + 1);
}

/// A view of the same tensor with its rows in the usual order.
weight_view reordered(weight_view from, int64_t head_dim) {
  auto out = from;
  out.data = nullptr;
  const auto cols = from.shape.size() == 1 ? 1 : from.shape[1];
  const auto row_bytes = bytes_of(from.type, static_cast<uint64_t>(cols));
  // The rows of a head are all over it.
  if (from.drop)
    out.drop = [drop = from.drop, head_dim](int64_t rows) { drop(rows / head_dim * head_dim); };
  if (from.wait)
    out.wait = [wait = from.wait, head_dim](int64_t rows, const std::stop_token& stop) {
      return wait((rows + head_dim - 1) / head_dim * head_dim, stop);
    };
  out.make = [from = std::move(from), head_dim, row_bytes](int64_t first, int64_t count,
                                                           std::byte* to) {
    for (int64_t i = first; i < first + count; ++i, to += row_bytes) {
      const auto row = row_in_file(i, head_dim);
      if (from.make)
        from.make(row, 1, to);
      else
        std::memcpy(
            to, static_cast<const std::byte*>(from.data) + static_cast<uint64_t>(row) * row_bytes,
            row_bytes);
    }
  };
  return out;
}

} // namespace

weight_lookup gguf_weights(const model_config& config, weight_lookup by_gguf_name) {
  const bool neighbours = config.arch == architecture::llama;
  const auto head_dim = config.head_dim;
  return [=, find = std::move(by_gguf_name)](std::string_view name) -> std::optional<weight_view> {
    const auto theirs = gguf_name(name);
    auto found = theirs.empty() ? std::nullopt : find(theirs);
    // One of a wrong shape is refused by whoever binds it; its rows are not looked at.
    if (found && neighbours && is_rotated(name) && !found->shape.empty() &&
        found->shape[0] % head_dim == 0)
      return reordered(std::move(*found), head_dim);
    return found;
  };
}

} // namespace troupe::engine
