#include "engine/batch/step_planner.hpp"

#include <algorithm>

namespace troupe::engine {

std::optional<sequence> step_planner::remove(sequence_id id) {
  const auto matches = [&](const sequence& one) { return one.request.id == id; };
  if (const auto found = std::find_if(running_.begin(), running_.end(), matches);
      found != running_.end()) {
    blocks_.give_back(found->blocks);
    sequence out = std::move(*found);
    running_.erase(found);
    return out;
  }
  if (const auto found = std::find_if(waiting_.begin(), waiting_.end(), matches);
      found != waiting_.end()) {
    sequence out = std::move(*found);
    waiting_.erase(found);
    return out;
  }
  return std::nullopt;
}

void step_planner::retire(std::list<sequence>::iterator one) {
  blocks_.give_back(one->blocks);
  running_.erase(one);
}

const sequence* step_planner::find(sequence_id id) const {
  for (const auto& one : running_)
    if (one.request.id == id)
      return &one;
  for (const auto& one : waiting_)
    if (one.request.id == id)
      return &one;
  return nullptr;
}

void step_planner::advance(sequence& one, size_t wrong) {
  one.computed += one.rows - wrong;
  const auto& tokens = one.request.tokens;
  for (; (one.remembered + 1) * limits_.block_size <= one.computed; ++one.remembered)
    blocks_.remember(one.request.salt, tokens, std::span{one.blocks}.first(one.remembered + 1));
}

void step_planner::preempt_youngest() {
  auto& victim = running_.back();
  blocks_.give_back(victim.blocks);
  victim.computed = victim.remembered = 0;
  victim.rows = 0;
  victim.draft.clear();
  waiting_.push_front(std::move(victim));
  running_.pop_back();
}

bool step_planner::reserve(std::list<sequence>::iterator one, uint32_t rows) {
  const auto needed = static_cast<int32_t>(blocks_for(one->computed + rows)) -
                      static_cast<int32_t>(one->blocks.size());
  while (needed > blocks_.available()) {
    const bool is_itself = std::next(one) == running_.end();
    preempt_youngest();
    if (is_itself)
      return false;
  }
  if (needed > 0)
    blocks_.take(needed, one->blocks);
  one->rows = rows;
  return true;
}

/// Guesses take what nobody else wants: rows that the step has left, and blocks that are free and
/// not spoken for. With many sequences in the batch there are none, and nothing to gain either.
void step_planner::draft(uint32_t budget) {
  uint32_t wanted = 0;
  for (const auto& one : running_)
    wanted += one.rows > 0 && one.computed + one.rows == one.size();
  // With a prompt in it, a step is bound by arithmetic: no row is cheap.
  const bool has_prompt = limits_.rows_max - budget > wanted;
  if (has_prompt)
    return;
  const auto worth = break_even_share(wanted);
  budget = std::min({budget, draft_rows_max(wanted),
                     limits_.logit_rows_max - std::min(wanted, limits_.logit_rows_max)});
  auto spare = budget > 0 ? unclaimed() : 0;
  for (auto one = running_.begin(); one != running_.end() && budget > 0; ++one) {
    const auto part = wanted > 1 ? (budget + wanted - 1) / wanted : budget;
    wanted -= one->rows == 1 && wanted > 1;
    if (one->rows != 1 || one->missing() != 1 || one->size() + 1 >= one->size_max)
      continue;
    const size_t most = std::min({size_t{part}, size_t{limits_.draft_max},
                                  size_t{one->pace.next(worth)}, one->size_max - one->size() - 1});
    look_up_draft(one->request.tokens, most, one->draft);
    const auto held = one->blocks.size() * limits_.block_size;
    const auto more = static_cast<int64_t>(blocks_for(one->size() + one->draft.size())) -
                      static_cast<int64_t>(one->blocks.size());
    if (more > spare)
      one->draft.resize(std::min(one->draft.size(), held - one->size()));
    else if (more > 0 && blocks_.take(static_cast<int32_t>(more), one->blocks))
      spare -= more;
    one->rows += static_cast<uint32_t>(one->draft.size());
    budget -= static_cast<uint32_t>(one->draft.size());
  }
}

bool step_planner::plan() {
  copies_.clear();
  admit();
  for (auto& one : running_) {
    one.rows = 0;
    one.draft.clear();
  }
  uint32_t budget = limits_.rows_max;
  const auto give = [&](bool decoding) {
    for (auto one = running_.begin(); one != running_.end() && budget > 0;) {
      if ((one->missing() == 1) != decoding || one->rows != 0) {
        ++one;
        continue;
      }
      const auto rows = static_cast<uint32_t>(std::min<size_t>(one->missing(), budget));
      if (!reserve(one, rows))
        return; // it was the youngest itself
      budget -= rows;
      ++one;
    }
  };
  give(true);
  give(false);
  if (limits_.draft_max > 0)
    draft(budget);
  return std::any_of(running_.begin(), running_.end(),
                     [](const sequence& one) { return one.rows > 0; });
}

} // namespace troupe::engine
