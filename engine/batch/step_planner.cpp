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

/// Whether a running sequence is about to compute more whole blocks of what `one` begins with.
bool step_planner::underway(const sequence& one, size_t known_blocks) const {
  if (!limits_.reuse_prefixes)
    return false;
  const auto& tokens = one.request.tokens;
  const auto usable = (tokens.size() - 1) / limits_.block_size;
  return std::any_of(running_.begin(), running_.end(), [&](const sequence& other) {
    if (other.missing() <= 1 || other.request.salt != one.request.salt || known_blocks >= usable)
      return false;
    const auto& theirs = other.request.tokens;
    const auto same = std::mismatch(tokens.begin(), tokens.end(), theirs.begin(), theirs.end());
    const auto common = static_cast<size_t>(same.first - tokens.begin()) / limits_.block_size;
    return std::min(common, usable) > known_blocks;
  });
}

bool step_planner::admit_next() {
  auto& next = waiting_.front();
  // The last token is computed in any case: its logits are wanted.
  blocks_.find_prefix(next.request.salt, next.request.tokens,
                      (next.size() - 1) / limits_.block_size, next.blocks);
  const auto known = next.blocks.size();
  // Alone it may always start: `add` made sure that it fits.
  const bool fits = running_.empty() || unclaimed() >= int64_t{blocks_for(next.size() + 1)} -
                                                           static_cast<int64_t>(known) + 1;
  // To wait for a few steps is cheaper than to compute the same once more beside them.
  if (!fits || underway(next, known)) {
    blocks_.give_back(next.blocks);
    return false;
  }
  next.computed = known * limits_.block_size;
  next.remembered = known;
  if (!next.was_admitted)
    next.reused = static_cast<uint32_t>(next.computed);
  next.was_admitted = true;
  // All of its growth, so that steps need not allocate.
  next.request.tokens.reserve(next.size_max);
  next.blocks.reserve(blocks_for(next.size_max));
  next.draft.reserve(limits_.draft_max);
  running_.push_back(std::move(next));
  waiting_.pop_front();
  return true;
}

void step_planner::admit() {
  while (!waiting_.empty() && running_.size() < limits_.sequences_max && admit_next()) {
  }
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
