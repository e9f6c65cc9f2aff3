#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.hpp"

namespace troupe::engine {

/// Hands out the blocks of a KV arena, and remembers what full blocks hold, so that a sequence that
/// begins as another one did takes that one's blocks instead of computing them.
///
/// Remembered blocks form a tree: a block's key is its parent and its tokens, a root's also the
/// salt (prefix reuse as in RadixAttention, arXiv 2312.07104 section 3, by whole blocks as in
/// vLLM). Only full blocks are shared, and nobody writes to those: who writes to a block has it
/// alone. Blocks that no sequence holds stay until they are needed; the least recently used leaves
/// go first.
///
/// All memory is taken when the pool is made. One thread at a time.
class block_pool {
public:
  /// `remember` = false turns reuse off.
  block_pool(int32_t blocks, uint32_t block_size, bool remember);

  int32_t total() const { return static_cast<int32_t>(blocks_.size()); }
  /// Blocks that no sequence holds, remembered ones included.
  int32_t available() const { return static_cast<int32_t>(free_.size()) + idle_; }
  uint32_t holders(int32_t id) const { return blocks_[static_cast<size_t>(id)].holders; }
  /// Appends `count` blocks to `to`, or does nothing and returns false if there are not so many.
  bool take(int32_t count, std::vector<int32_t>& to);
  /// Lets go of all blocks of `from`, in order of position, and empties it.
  void give_back(std::vector<int32_t>& from);

  /// Appends the remembered blocks that `tokens` begins with, `blocks_max` at most, to `to`. The
  /// caller holds them then.
  void find_prefix(uint64_t salt, std::span<const token_id> tokens, size_t blocks_max,
                   std::vector<int32_t>& to);
  /// Remembers what the last block of `held` is for: `tokens` are those of the blocks before it and
  /// its own, all computed, and the blocks before it are remembered. If another sequence was
  /// faster, its block, which has the same contents, takes the place in `held`.
  void remember(uint64_t salt, std::span<const token_id> tokens, std::span<int32_t> held);

private:
  static constexpr int32_t none = -1;
  struct block {
    uint32_t holders = 0;
    bool remembered = false;
    int32_t parent = none;
    uint64_t salt = 0, hash = 0;
    int32_t next_in_bucket = none;
    int32_t older = none, newer = none; ///< among remembered blocks without holders
  };
  uint64_t hash_of(int32_t parent, uint64_t salt, std::span<const token_id> tokens) const;
  int32_t find(int32_t parent, uint64_t salt, uint64_t hash,
               std::span<const token_id> tokens) const;
  void hold(int32_t id);
  void release(int32_t id);
  void forget(int32_t id);
  void append_idle(int32_t id);
  void remove_idle(int32_t id);
  std::span<const token_id> part(std::span<const token_id> tokens, size_t index) const {
    return tokens.subspan(index * block_size_, block_size_);
  }

  size_t block_size_;
  bool remembers_;
  std::vector<block> blocks_;
  std::vector<token_id> tokens_; ///< [blocks, block_size] of remembered blocks
  std::vector<int32_t> free_;    ///< a stack: what was freed last is still in the caches
  std::vector<int32_t> buckets_; ///< a power of two
  int32_t oldest_ = none, newest_ = none;
  int32_t idle_ = 0; ///< remembered, without holders
};

} // namespace troupe::engine
