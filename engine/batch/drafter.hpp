#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.hpp"

/// Guesses of what a sequence says next, which one step checks together.
namespace troupe::engine {

/// Sets `out` to the tokens, `count` at most, that followed the last earlier occurrence of the
/// ending of `tokens`: of the longest ending that occurs (of two to eight tokens), the latest.
/// Empty if none occurs. (Prompt lookup: the drafter of Saxena's "Prompt Lookup Decoding" for the
/// verification of Leviathan et al., arXiv 2211.17192.)
void look_up_draft(std::span<const token_id> tokens, size_t count, std::vector<token_id>& out);

/// The share of right guesses, 0..1, at which a step of `sequences` decoding sequences takes no
/// longer for each token than it does without guesses. A step takes as long as `free_rows` rows,
/// and its rows; to make a guess for each sequence takes `pass` of a step without guesses.
float break_even_share(size_t sequences, double free_rows, double pass = 0);

/// Guesses with which a step of `sequences` decoding sequences takes about twice as long as
/// without: more would make those wait whose texts cannot be guessed.
uint32_t draft_rows_max(size_t sequences, double free_rows);

/// How much to guess for one sequence, from how its guesses fared: longer while all are right, and
/// pauses, each twice as long as the one before, while too few are right to pay for their rows.
class draft_pace {
public:
  /// Tokens to guess in this step, 0 during a pause. At less than `worth` right ones of recent
  /// guesses a pause begins. One call for each step.
  uint32_t next(float worth);
  /// Of `drafted` guesses, at least one, the first `right` were right.
  void learn(uint32_t drafted, uint32_t right);

private:
  uint32_t length_ = 4;
  uint32_t pause_ = 0;      ///< steps left
  uint32_t pause_next_ = 8; ///< length of the next one
  float share_ = 0.5f;      ///< of right guesses, recent ones count most
};

} // namespace troupe::engine
