#pragma once
#include <cstdint>
#include <vector>

#include "engine/batch/drafter.hpp"
#include "engine/engine.hpp"

namespace troupe::engine {

/// A sequence inside the engine. `request.tokens` grows as tokens are generated.
struct sequence {
  sequence_request request;
  size_t computed = 0;         ///< tokens whose keys and values are in `blocks`
  std::vector<int32_t> blocks; ///< KV blocks, in order of position
  size_t remembered = 0;       ///< the first so many blocks are known to the pool
  uint32_t rows = 0;           ///< planned for the current step
  uint32_t reused = 0;         ///< tokens that were found computed; told with the next token
  bool has_run = false;        ///< since it started last
  uint32_t preempted = 0;      ///< times it was pushed out; told with the next token
  bool was_admitted = false;
  uint64_t came = 0;           ///< when it started first, by the count of the KV memory
  std::vector<int32_t> saved;  ///< swap slots of the blocks that it had when it was pushed out
  size_t saved_after = 0;      ///< blocks in front of those: shared ones, which were not saved
  size_t saved_computed = 0;   ///< tokens that all of them held
  size_t size_max = 0;         ///< tokens that it may come to have
  std::vector<token_id> draft; ///< guessed for the current step: its last rows
  draft_pace pace;

  size_t size() const { return request.tokens.size(); }
  size_t missing() const { return size() - computed; }
  uint32_t generated() const { return static_cast<uint32_t>(size() - request.prompt_size); }
};

} // namespace troupe::engine
