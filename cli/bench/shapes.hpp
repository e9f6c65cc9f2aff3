#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/dtype.hpp"

namespace troupe::cli::bench {

/// The dimensions of a published model, from its config.json.
struct shape {
  std::string_view name;         ///< as it is typed: "llama-3.2-1b"
  std::string_view architecture; ///< "LlamaForCausalLM"
  int64_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary;
  bool tied; ///< embedding and vocabulary projection are one tensor
};

/// All shapes that can be named; smallest first within a family.
std::span<const shape> all_shapes();
/// Null if there is none of that name.
const shape* find_shape(std::string_view name);
/// A config.json of it whose tensors are of `type` (f32, f16 or bf16).
std::string config_json(const shape& of, dtype type);

} // namespace troupe::cli::bench
