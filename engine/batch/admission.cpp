#include <algorithm>

#include "engine/batch/step_planner.hpp"

/// Who of the waiting starts, and with what of it computed already.
namespace troupe::engine {

namespace {

/// To wait for rows that another sequence computes costs a step, which takes as long as so many
/// rows. Not the measured number: who waits for whom should not depend on a clock.
constexpr auto wait_rows_min = static_cast<size_t>(policies::step_cost::usual_free_rows);

} // namespace

/// What running sequences have computed, or are about to compute, of the beginning of another one.
struct step_planner::kinship {
  const sequence* donor = nullptr; ///< has computed the most
  size_t computed = 0;             ///< tokens that `donor` has computed of it
  size_t expected = 0;             ///< tokens that some running sequence will have computed soon
};

/// Free blocks less those that the running sequences still lack for their tokens, and one more for
/// each of them to grow into: a sequence that starts with nothing to spare would be pushed out
/// again by the next block that any of them fills.
int64_t step_planner::unclaimed() const {
  int64_t out = blocks_.available();
  for (const auto& one : running_)
    out -= int64_t{blocks_for(one.size() + 1)} - static_cast<int64_t>(one.blocks.size()) + 1;
  return out;
}

int64_t step_planner::startable() const {
  auto left = unclaimed();
  for (const auto& one : waiting_)
    left -= blocks_for(one.size() + 1) + 1;
  // The first of all may always start.
  return running_.empty() && waiting_.empty() ? std::max<int64_t>(1, left / 2)
                                              : std::max<int64_t>(0, left / 2);
}

step_planner::kinship step_planner::closest_kin(const sequence& one) const {
  kinship out;
  if (!limits_.reuse_prefixes)
    return out;
  // The last token is computed in any case: its logits are wanted.
  const auto usable = std::span{one.request.tokens}.first(one.size() - 1);
  for (const auto& other : running_) {
    if (other.request.salt != one.request.salt)
      continue;
    const auto& theirs = other.request.tokens;
    const auto parting = std::mismatch(usable.begin(), usable.end(), theirs.begin(), theirs.end());
    const auto common = static_cast<size_t>(parting.first - usable.begin());
    const auto computed = std::min(common, other.computed);
    if (computed > out.computed) {
      out.donor = &other;
      out.computed = computed;
    }
    // One that only decodes computes nothing more that is known today.
    out.expected = std::max(out.expected, other.missing() > 1 ? common : computed);
  }
  return out;
}

/// Takes a block for the tokens that follow `one`'s full blocks, as far as the donor has them.
void step_planner::copy_partial_block(sequence& one, const kinship& kin) {
  const auto known = one.blocks.size();
  if (one.computed != known * limits_.block_size || kin.computed <= one.computed ||
      !blocks_.take(1, one.blocks))
    return;
  moves_.push_back({block_move::way::copy, kin.donor->blocks[known], one.blocks.back()});
  one.computed = std::min(kin.computed, (known + 1) * limits_.block_size);
}

/// `kept_blocks` are spoken for by earlier ones that wait for their kin.
step_planner::admission step_planner::try_admit(sequence& next, int64_t& kept_blocks) {
  const auto give_up = [&](admission why) {
    blocks_.give_back(next.blocks);
    return why;
  };
  blocks_.find_prefix(next.request.salt, next.request.tokens,
                      (next.size() - 1) / limits_.block_size, next.blocks);
  const auto known = next.blocks.size();
  const auto kin = closest_kin(next);
  const auto lacking = [&](size_t shared) {
    return int64_t{blocks_for(next.size() + 1)} - static_cast<int64_t>(shared) + 1;
  };
  // To wait for the rest of a prompt is cheaper than to compute it once more beside it.
  const auto at_hand = std::max({known * limits_.block_size, kin.computed,
                                 can_restore(next, known) ? next.saved_computed : size_t{0}});
  if (kin.expected >= at_hand + wait_rows_min) {
    kept_blocks += lacking(kin.expected / limits_.block_size);
    return give_up(admission::waits_for_kin);
  }
  // Alone it may always start: `add` made sure that it fits.
  if (!running_.empty() && unclaimed() - kept_blocks < lacking(known))
    return give_up(admission::lacks_blocks);
  next.computed = known * limits_.block_size;
  next.remembered = known;
  // All of its growth, so that steps need not allocate.
  next.request.tokens.reserve(next.size_max);
  next.blocks.reserve(blocks_for(next.size_max));
  next.draft.reserve(limits_.draft_max);
  if (!next.was_admitted)
    next.came = blocks_.tick();
  restore(next);
  copy_partial_block(next, kin);
  if (!next.was_admitted)
    next.reused = static_cast<uint32_t>(next.computed);
  next.was_admitted = true;
  return admission::starts;
}

/// Among the running ones the oldest is the first, also of those that were pushed out meanwhile.
void step_planner::start(sequence next) {
  auto at = running_.end();
  while (at != running_.begin() && std::prev(at)->came > next.came)
    --at;
  running_.insert(at, std::move(next));
}

void step_planner::admit() {
  size_t kept_places = 0;
  int64_t kept_blocks = 0;
  for (auto next = waiting_.begin();
       next != waiting_.end() && running_.size() + kept_places < limits_.sequences_max;) {
    switch (try_admit(*next, kept_blocks)) {
    case admission::starts:
      start(std::move(*next));
      next = waiting_.erase(next);
      break;
    case admission::waits_for_kin:
      ++kept_places;
      ++next;
      break;
    case admission::lacks_blocks:
      return; // smaller ones behind it would keep it waiting for ever
    }
  }
}

} // namespace troupe::engine
