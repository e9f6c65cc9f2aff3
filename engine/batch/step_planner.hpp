#pragma once
#include <deque>
#include <list>
#include <optional>

#include "engine/batch/guesser.hpp"
#include "engine/batch/sequence.hpp"
#include "engine/kv/block_pool.hpp"
#include "policies/preemption.hpp"
#include "policies/step_budget.hpp"

namespace troupe::engine {

struct step_limits {
  uint32_t sequences_max = 64;
  uint32_t rows_max = 512;
  uint32_t block_size = 16;
  bool reuse_prefixes = true;
  uint32_t draft_max = 0;       ///< guessed tokens of a sequence in one step
  uint32_t logit_rows_max = 64; ///< rows of one step whose logits are wanted, guesses included
  policies::step_budget_config budget = {};
  preemption preempt = preemption::cheaper;
  uint32_t swap_slots = 0;  ///< blocks that the host has room for
  uint64_t block_bytes = 0; ///< over all layers
};

/// Contents that go from one block to another.
struct block_move {
  enum class way : uint8_t {
    copy, ///< from a block to a block
    save, ///< from a block to a swap slot of the host
    load, ///< from a swap slot to a block
  };
  way how = way::copy;
  int32_t from = 0;
  int32_t to = 0;
};

/// Decides which rows the next step runs. Every running sequence that only needs its next token
/// gets a row first; what is left of the step goes to prompts, cut into chunks no larger than lets
/// the step end in time (stall-free batching: Agrawal et al., "Sarathi-Serve", OSDI'24, section 4).
/// Urgent prompts come first and may make a step longer; others then get their least part of every
/// other step only. When KV blocks run out, the youngest sequence gives its blocks up; what was in
/// them is computed anew later, or waits on the host (vLLM, SOSP'23, section 4.5). Rows that are
/// left over check guesses of what decoding sequences say next.
///
/// What two sequences of one salt begin with is computed once: whole blocks are shared through the
/// pool, and of the block where they part the later one gets a copy, so that choices of one prompt
/// compute one row each. A sequence whose beginning another one is just computing waits for that;
/// it keeps its place in the queue, and room for itself, while those behind it go on.
class step_planner {
public:
  /// `guesses` must outlive the planner; without one guesses are looked up.
  step_planner(step_limits limits, int32_t blocks, guesser* guesses = nullptr)
      : step_planner{limits, block_pool{blocks, limits.block_size, limits.reuse_prefixes},
                     guesses} {}
  /// Over blocks that are borrowed from `kv`, which must outlive it.
  step_planner(step_limits limits, kv_arena& kv, guesser* guesses)
      : step_planner{limits, block_pool{kv, limits.reuse_prefixes}, guesses} {}

  void add(sequence one) { waiting_.push_back(std::move(one)); }
  /// Removes a sequence wherever it is; nothing when it is unknown.
  std::optional<sequence> remove(sequence_id id);
  const sequence* find(sequence_id id) const;
  /// New sequences of one block that the next `plan` could admit.
  int64_t startable() const;
  /// Sets `rows` of every running sequence; false when there is nothing to run.
  bool plan();
  /// The planned rows of `one` are computed, of which the last `wrong` were guessed and are not
  /// what it says. What the others filled is remembered.
  void advance(sequence& one, size_t wrong = 0);
  /// Takes a finished sequence out.
  void retire(std::list<sequence>::iterator one);
  /// Between steps: the youngest sequence makes room for another model. `moves` are then those that
  /// save what it had. Nothing if none runs.
  void push_out();
  /// Between steps: see `block_pool`.
  void give_up_spare() { blocks_.give_up_spare(); }
  /// Whether `plan` is under way, so that blocks may hold what its moves are still to save.
  bool is_planning() const { return is_planning_; }

  std::list<sequence>& running() { return running_; } ///< oldest first
  const std::list<sequence>& running() const { return running_; }
  const std::deque<sequence>& waiting() const { return waiting_; }
  const block_pool& blocks() const { return blocks_; }
  /// To be made in this order before the planned rows are computed.
  const std::vector<block_move>& moves() const { return moves_; }
  /// Rows and attended positions of the planned step.
  policies::step_shape shape() const;
  /// The step of this shape took so long.
  void learn_step(policies::step_shape shape, duration took) { cost_.learn(shape, took); }
  /// Copies between blocks and swap slots took so long.
  void learn_copying(uint64_t size_bytes, duration took) { copying_.learn(size_bytes, took); }
  uint64_t recomputed() const { return recomputed_; } ///< preemptions of either kind so far
  uint64_t swapped() const { return swapped_; }
  uint32_t slots_in_use() const {
    return limits_.swap_slots - static_cast<uint32_t>(free_slots_.size());
  }
  const step_limits& limits() const { return limits_; }
  uint32_t blocks_for(size_t tokens) const {
    return static_cast<uint32_t>((tokens + limits_.block_size - 1) / limits_.block_size);
  }

private:
  step_planner(step_limits limits, block_pool blocks, guesser* guesses);
  struct kinship;
  enum class admission : uint8_t { starts, waits_for_kin, lacks_blocks };
  void admit();
  int64_t unclaimed() const;
  admission try_admit(sequence& next, int64_t& kept_blocks);
  kinship closest_kin(const sequence& one) const;
  void copy_partial_block(sequence& one, const kinship& kin);
  bool can_restore(const sequence& one, size_t known_blocks) const;
  void restore(sequence& one);
  void free_saved(sequence& one);
  bool save(sequence& victim);
  void give_decoding_rows(uint32_t& budget);
  void give_urgent_rows(uint32_t& budget);
  void give_prompt_rows(uint32_t budget);
  uint32_t prompt_budget(uint32_t rows_max, bool urgent) const;
  bool reserve(std::list<sequence>::iterator one, uint32_t rows);
  policies::kv_plea plea_of(const sequence& one, size_t others) const;
  void start(sequence next);
  void give_rows();
  void preempt_youngest();
  void draft(uint32_t rows_planned);
  void wish_guesses(uint32_t decoding, uint32_t budget);
  bool can_guess(const sequence& one) const;

  step_limits limits_;
  block_pool blocks_;
  std::list<sequence> running_;
  std::deque<sequence> waiting_;
  std::vector<block_move> moves_;
  std::vector<int32_t> free_slots_;
  policies::step_cost cost_;
  policies::copy_speed copying_;
  lookup_guesser lookup_;
  guesser* guesses_;
  std::vector<guess_wish> wishes_;
  uint64_t recomputed_ = 0, swapped_ = 0;
  bool passed_over_ = false; ///< urgent prompts had the step to themselves
  bool is_planning_ = false;
};

} // namespace troupe::engine
