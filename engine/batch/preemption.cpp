#include <algorithm>
#include <utility>

#include "engine/batch/step_planner.hpp"

/// Who goes when blocks run out, what becomes of what was computed, and how it comes back.
namespace troupe::engine {

void step_planner::preempt_youngest() {
  auto& victim = running_.back();
  const bool is_saved = save(victim);
  // Who found no room to begin with has lost nothing.
  if (std::exchange(victim.has_run, false)) {
    ++(is_saved ? swapped_ : recomputed_);
    ++victim.preempted;
  }
  blocks_.give_back(victim.blocks);
  victim.computed = victim.remembered = 0;
  victim.rows = 0;
  victim.draft.clear();
  waiting_.push_front(std::move(victim));
  running_.pop_back();
}

void step_planner::push_out() {
  moves_.clear();
  if (running_.empty())
    return;
  preempt_youngest();
  blocks_.trim();
}

/// What to say of `one` when it needs blocks and so many others run.
policies::kv_plea step_planner::plea_of(const sequence& one, size_t others) const {
  policies::kv_plea out;
  out.came = one.came;
  out.is_alone = others == 0;
  out.may_push_out = true;
  return out;
}

/// Plans the copies of what only `victim` holds to the host, if there is room and it pays. Blocks
/// that others hold too are most likely there still when it comes back.
bool step_planner::save(sequence& victim) {
  if (limits_.preempt == preemption::recompute)
    return false;
  const auto& blocks = victim.blocks;
  const auto own = std::find_if(blocks.begin(), blocks.end(),
                                [&](int32_t id) { return blocks_.holders(id) == 1; });
  const auto after = static_cast<size_t>(own - blocks.begin());
  const auto end = size_t{blocks_for(victim.computed)}; // later ones hold nothing yet
  if (after >= end || end - after > free_slots_.size())
    return false;
  const auto before = after * limits_.block_size;
  if (limits_.preempt == preemption::cheaper &&
      !policies::swapping_pays(
          {victim.computed - before, before, (end - after) * limits_.block_bytes}, cost_, copying_))
    return false;
  for (auto at = after; at < end; ++at) {
    victim.saved.push_back(free_slots_.back());
    free_slots_.pop_back();
    moves_.push_back({block_move::way::save, blocks[at], victim.saved.back()});
  }
  victim.saved_after = after;
  victim.saved_computed = victim.computed;
  return true;
}

/// Whether what was saved of `one` goes on where the blocks that were found for it end, or earlier.
bool step_planner::can_restore(const sequence& one, size_t known_blocks) const {
  return !one.saved.empty() && one.saved_after <= known_blocks &&
         known_blocks * limits_.block_size < one.saved_computed;
}

/// Takes blocks for the saved ones that were not found anyway, and plans the copies back.
void step_planner::restore(sequence& one) {
  const auto known = one.blocks.size();
  if (can_restore(one, known)) {
    const auto end = one.saved_after + one.saved.size();
    if (blocks_.take(static_cast<int32_t>(end - known), one.blocks,
                     plea_of(one, running_.size()))) {
      for (auto at = known; at < end; ++at)
        moves_.push_back({block_move::way::load, one.saved[at - one.saved_after], one.blocks[at]});
      one.computed = one.saved_computed;
    }
  }
  free_saved(one);
}

void step_planner::free_saved(sequence& one) {
  free_slots_.insert(free_slots_.end(), one.saved.begin(), one.saved.end());
  one.saved.clear();
}

} // namespace troupe::engine
