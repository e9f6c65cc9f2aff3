#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.hpp"
#include "engine/engine.hpp"
#include "gpu/ops.hpp"

namespace troupe::engine {

enum class architecture : uint8_t { llama, mistral, qwen2, qwen3 };
/// The name in config.json's `architectures`, for example "LlamaForCausalLM".
std::string_view to_string(architecture arch);

enum class rope_kind : uint8_t { plain, linear, llama3, yarn };

/// Rotary position embedding and how it is stretched beyond the trained context.
struct rope_config {
  rope_kind kind = rope_kind::plain;
  double theta = 10000.0;
  double partial_factor = 1.0; ///< share of each head that is rotated
  double factor = 1.0;
  double original_context = 0; ///< original_max_position_embeddings
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;          ///< yarn: whole dimensions as the borders of the ramp
  double attention_factor = 1.0; ///< already inferred where the file leaves it out
  std::vector<float> divisors;   ///< of each pair's frequency; empty = 1 for all
};

/// What the codes of a weight are that is kept as codes with scales.
enum class weight_code : uint8_t { f8_e4m3, int8, packed4, packed8 };

/// One way in which such weights of a checkpoint are kept; see engine/model/scaled_weights.hpp.
struct scaled_form {
  weight_code code = weight_code::f8_e4m3;
  int64_t rows = -1; ///< outputs that share a scale; -1 = all
  int64_t cols = -1; ///< inputs that share a scale; -1 = all
  bool symmetric = true;
  std::vector<std::string> targets{}; ///< modules (see `module_names`); none = all
};

/// How a checkpoint packs weights. awq and gptq: 4 bits in words, see
/// engine/model/packed_weights.hpp. scaled: in one of `forms`.
enum class weight_packing : uint8_t { awq, gptq, scaled };
struct packed_config {
  weight_packing packing = weight_packing::gptq;
  int64_t group_size = 128; ///< inputs that share a scale; -1 = all
  int zero_offset = 1;      ///< what is added to a stored zero
  bool symmetric = false;   ///< all zeros are said to be 8
  bool act_order = false;   ///< inputs of a group are not side by side
  std::vector<scaled_form> forms;
  std::vector<std::string> left_alone{}; ///< modules (see `module_names`) that it says are not
};

/// What config.json says about a decoder, checked: every number is in range, so products of
/// dimensions fit in 63 bits and divisions are exact.
struct model_config {
  architecture arch = architecture::llama;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t context_length = 0; ///< max_position_embeddings
  float rms_norm_eps = 1e-6f;
  gpu::activation hidden_act = gpu::activation::silu;
  rope_config rope;
  std::vector<int64_t> windows; ///< per layer; 0 = every position is visible
  bool qkv_bias = false;
  bool output_bias = false; ///< of o_proj
  bool mlp_bias = false;
  bool qk_norm = false;
  bool tied_embeddings = false;
  std::optional<packed_config> packed; ///< weights come packed
  std::optional<dtype> type;           ///< what the file says; the tensors decide
  std::optional<token_id> bos_token_id;
  std::vector<token_id> eos_token_ids;

  int64_t q_size() const { return heads * head_dim; }
  int64_t kv_size() const { return kv_heads * head_dim; }
};

/// Reads a Hugging Face config.json. `origin` (a path or URL) begins every error message, which
/// also names the key. Fails with invalid_config, or with unsupported for a model that is fine
/// but not served here.
caf::expected<model_config> parse_model_config(std::string_view json, std::string_view origin);

} // namespace troupe::engine
