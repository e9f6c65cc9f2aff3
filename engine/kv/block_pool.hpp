#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.hpp"
#include "policies/kv_share.hpp"

namespace troupe::engine {

class kv_arena;

/// Hands out the blocks of a model, and remembers what full blocks hold, so that a sequence that
/// begins as another one did takes that one's blocks instead of computing them.
///
/// Remembered blocks form a tree: a block's key is its parent and its tokens, a root's also the
/// salt (prefix reuse as in RadixAttention, arXiv 2312.07104 section 3, by whole blocks as in
/// vLLM). Only full blocks are shared, and nobody writes to those: who writes to a block has it
/// alone. Blocks that no sequence holds stay until they are needed; the least recently used leaves
/// go first.
///
/// With an arena, the pool borrows runs of blocks when it needs them, and gives back those in which
/// nobody holds or remembers anything; it hands out blocks of the lowest runs, so that the others
/// become free.
///
/// All memory is taken when the pool is made. One thread at a time.
class block_pool {
public:
  /// Of blocks that are all there from the start. `remember` = false turns reuse off.
  block_pool(int32_t blocks, uint32_t block_size, bool remember);
  /// Of those that `from`, which must outlive the pool, can borrow.
  block_pool(kv_arena& from, bool remember);

  /// Blocks that it may have at most.
  int32_t total() const { return static_cast<int32_t>(blocks_.size()); }
  /// Blocks that no sequence of the model holds and that could be had for one that comes now.
  int32_t available() const;
  int32_t held() const { return held_; } ///< by sequences
  uint32_t holders(int32_t id) const { return blocks_[static_cast<size_t>(id)].holders; }
  /// Appends `count` blocks to `to`, or does nothing to it and returns false if they cannot be had.
  /// `plea` says for whom they are.
  bool take(int32_t count, std::vector<int32_t>& to, const policies::kv_plea& plea = {});
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

  /// Gives back the runs in which nothing is held or remembered.
  void trim();
  /// Forgets what the spare run remembers that was used longest ago, and gives it back.
  void give_up_spare();
  int32_t spare_runs() const { return spare_runs_; } ///< without a block that a sequence holds
  /// When the spare run was used last that `give_up_spare` would give up.
  uint64_t spare_since() const;
  uint64_t tick();

private:
  static constexpr int32_t none = -1;
  struct block {
    uint32_t holders = 0;
    bool remembered = false;
    uint64_t serial = 0; ///< of the remembering: no two have the same, 0 = not remembered
    uint64_t parent = 0; ///< its serial; a block whose parent was forgotten is found no more
    uint64_t salt = 0, hash = 0;
    int32_t next_in_bucket = none;
    int32_t next_free = none;           ///< in its run
    int32_t older = none, newer = none; ///< among remembered blocks without holders
    uint64_t idle_since = 0;
  };
  /// Blocks that are borrowed together.
  struct run {
    bool is_here = false;
    int32_t first_free = none;
    int32_t free = 0, held = 0, blocks = 0;
    int32_t older = none, newer = none; ///< among spare runs
    uint64_t spare_since = 0;
  };
  run& run_of(int32_t id) { return runs_[static_cast<size_t>(id / run_blocks_)]; }
  void make_room();
  bool grow(const policies::kv_plea& plea);
  void add_run(int32_t number);
  void give_back_run(int32_t number);
  int32_t take_one();
  void free_block(int32_t id);
  void count_held(int32_t id, int32_t change);
  uint64_t hash_of(int32_t parent, uint64_t salt, std::span<const token_id> tokens) const;
  int32_t find(int32_t parent, uint64_t salt, uint64_t hash,
               std::span<const token_id> tokens) const;
  void hold(int32_t id);
  void release(int32_t id);
  void forget(int32_t id);
  void append_idle(int32_t id);
  void remove_idle(int32_t id);
  void insert_spare(int32_t number);
  void remove_spare(int32_t number);
  uint64_t serial_of(int32_t id) const {
    return id == none ? 0 : blocks_[static_cast<size_t>(id)].serial;
  }
  std::span<const token_id> part(std::span<const token_id> tokens, size_t index) const {
    return tokens.subspan(index * block_size_, block_size_);
  }

  size_t block_size_;
  bool remembers_;
  std::vector<block> blocks_;
  std::vector<token_id> tokens_; ///< [blocks, block_size] of remembered blocks
  std::vector<int32_t> buckets_; ///< a power of two
  int32_t oldest_ = none, newest_ = none;
  int32_t idle_ = 0; ///< remembered, without holders
  int32_t free_ = 0, held_ = 0;
  kv_arena* arena_ = nullptr;
  int32_t run_blocks_;
  std::vector<run> runs_;
  int32_t lowest_free_ = 0, lowest_absent_ = 0; ///< no run before these has a free block; is absent
  int32_t oldest_spare_ = none, newest_spare_ = none;
  int32_t spare_runs_ = 0;
  uint64_t serial_ = 0, clock_ = 0;
};

} // namespace troupe::engine
