#pragma once
#include <cstdint>

/// The op that chooses tokens where the logits lie, so that they need not come to the host. What it
/// computes is what `engine/sampler` computes, bit for bit: the same source (`choice_math.hpp`),
/// and sums of integers.
namespace troupe::gpu {

/// Alternatives that `choose` names at most.
inline constexpr int32_t choose_top_max = 20;
/// Vocabularies that `choose` takes.
inline constexpr int64_t choose_vocabulary_max = int64_t{1} << 21;

/// How one row's token is chosen; see `engine::sampling_params`.
struct choose_row {
  uint64_t random = 0; ///< 64 random bits: the draw
  float temperature = 0;
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0; ///< 0 = off
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t top = -1; ///< alternatives wanted, and the chosen token's own logit; -1 = none
  int32_t first_edit = 0;
  int32_t edits = 0;
  int32_t is_left_out = 0; ///< the caller chooses for this row, whose logits stay as they are
  int32_t unused = 0;
};

/// What happens to a token's logit before the choice: + bias, then -infinity if it is suppressed,
/// then the penalties. Edits of one row name different tokens.
struct choose_edit {
  int32_t token = 0;
  float bias = 0;
  uint32_t count = 0; ///< times that it was generated
  uint32_t what = 0;  ///< `suppressed`, `seen`
  float raw = 0;      ///< out: its logit before

  static constexpr uint32_t suppressed = 1, seen = 2;
};

/// What was chosen.
struct chosen_token {
  int32_t token = 0;
  int32_t is_sound = 0; ///< 0: the logits held NaN, +infinity or nothing finite
  // Where alternatives were asked for: of the logits as the model computed them.
  float highest = 0;
  float logit = 0;   ///< the chosen token's
  uint64_t mass = 0; ///< sum of the weights at temperature 1, see `mass_of`
  int32_t tops = 0;  ///< alternatives
  int32_t unused = 0;
  int32_t top_tokens[choose_top_max] = {}; ///< highest logits first, ties by token
  float top_logits[choose_top_max] = {};
};

/// Chooses out[i] for row i of `logits`, whose contents are lost but for rows left out.
struct choose_args {
  float* logits = nullptr; ///< [rows, stride]
  int64_t stride = 0;
  int64_t rows = 0;
  int64_t vocabulary = 0;          ///< at most `stride` and `choose_vocabulary_max`
  const choose_row* how = nullptr; ///< [rows]
  choose_edit* edits = nullptr;    ///< of all rows
  chosen_token* out = nullptr;     ///< [rows]
  // What the rows want, for the host plans by it.
  bool any_edits = false;
  bool any_draws = false; ///< temperatures above 0
  bool any_tops = false;
};

} // namespace troupe::gpu
