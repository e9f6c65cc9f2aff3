#include "engine/batch/step_planner.hpp"

#include <algorithm>

namespace troupe::engine {

step_planner::step_planner(step_limits limits, block_pool blocks, guesser* guesses)
    : limits_{limits}, blocks_{std::move(blocks)}, guesses_{guesses} {
  moves_.reserve(limits.sequences_max);
  wishes_.reserve(limits.sequences_max);
  for (auto slot = static_cast<int32_t>(limits.swap_slots); slot-- > 0;)
    free_slots_.push_back(slot);
}

std::optional<sequence> step_planner::remove(sequence_id id) {
  const auto matches = [&](const sequence& one) { return one.request.id == id; };
  if (const auto found = std::find_if(running_.begin(), running_.end(), matches);
      found != running_.end()) {
    blocks_.give_back(found->blocks);
    blocks_.trim();
    sequence out = std::move(*found);
    running_.erase(found);
    return out;
  }
  if (const auto found = std::find_if(waiting_.begin(), waiting_.end(), matches);
      found != waiting_.end()) {
    free_saved(*found);
    sequence out = std::move(*found);
    waiting_.erase(found);
    return out;
  }
  return std::nullopt;
}

void step_planner::retire(std::list<sequence>::iterator one) {
  blocks_.give_back(one->blocks);
  blocks_.trim();
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
  one.has_run = true;
  const auto& tokens = one.request.tokens;
  for (; (one.remembered + 1) * limits_.block_size <= one.computed; ++one.remembered)
    blocks_.remember(one.request.salt, tokens, std::span{one.blocks}.first(one.remembered + 1));
}

bool step_planner::reserve(std::list<sequence>::iterator one, uint32_t rows) {
  const auto needed = static_cast<int32_t>(blocks_for(one->computed + rows)) -
                      static_cast<int32_t>(one->blocks.size());
  while (needed > 0 && !blocks_.take(needed, one->blocks, plea_of(*one, running_.size() - 1))) {
    const bool is_itself = std::next(one) == running_.end();
    preempt_youngest();
    if (is_itself)
      return false;
  }
  one->rows = rows;
  return true;
}

/// Guesses take what nobody else wants: rows that the step has left, and blocks that are free and
/// not spoken for. With many sequences in the batch there are none, and nothing to gain either.
void step_planner::draft(uint32_t rows_planned) {
  uint32_t wanted = 0;
  for (const auto& one : running_)
    wanted += one.rows > 0 && one.computed + one.rows == one.size();
  // With a prompt in it, a step has other things to do with its time.
  if (wanted == 0 || rows_planned > wanted)
    return;
  auto budget =
      std::min({limits_.rows_max - rows_planned, draft_rows_max(wanted, cost_.free_rows()),
                limits_.logit_rows_max - std::min(wanted, limits_.logit_rows_max)});
  if (budget == 0)
    return;
  wish_guesses(wanted, budget);
  auto spare = unclaimed();
  for (auto one = running_.begin(); one != running_.end() && budget > 0; ++one) {
    const auto part = wanted > 1 ? (budget + wanted - 1) / wanted : budget;
    wanted -= one->rows == 1 && wanted > 1;
    if (!can_guess(*one))
      continue;
    one->draft.resize(std::min(one->draft.size(), size_t{part}));
    const auto held = one->blocks.size() * limits_.block_size;
    const auto more = static_cast<int64_t>(blocks_for(one->size() + one->draft.size())) -
                      static_cast<int64_t>(one->blocks.size());
    if (more > 0 && more <= spare && blocks_.take(static_cast<int32_t>(more), one->blocks))
      spare -= more;
    else if (more > 0)
      one->draft.resize(std::min(one->draft.size(), held - one->size()));
    one->rows += static_cast<uint32_t>(one->draft.size());
    budget -= static_cast<uint32_t>(one->draft.size());
  }
}

bool step_planner::can_guess(const sequence& one) const {
  return one.rows == 1 && one.missing() == 1 && one.size() + 1 < one.size_max;
}

/// Has guesses made for the `decoding` sequences: those that cost nothing for as many rows as there
/// are, others for no more than a sequence's part.
void step_planner::wish_guesses(uint32_t decoding, uint32_t budget) {
  const auto rows = static_cast<double>(decoding);
  const auto is_free = guesses_ == nullptr;
  guesser& guesses = is_free ? lookup_ : *guesses_;
  const auto step_ms = cost_.is_measured() ? cost_.ms({rows, 0}) : 0;
  const auto pass = step_ms > 0 ? guesses.pass_ms() / step_ms : 0;
  const auto worth = break_even_share(decoding, cost_.free_rows(), pass);
  const auto part = is_free ? budget : (budget + decoding - 1) / decoding;
  wishes_.clear();
  for (auto& one : running_)
    if (can_guess(one))
      wishes_.push_back({&one.request,
                         static_cast<uint32_t>(std::min({size_t{part}, size_t{limits_.draft_max},
                                                         size_t{one.pace.next(worth)},
                                                         one.size_max - one.size() - 1})),
                         &one.draft});
  guesses.guess(wishes_);
}

/// A row for each sequence that only needs its next token.
void step_planner::give_decoding_rows(uint32_t& budget) {
  for (auto one = running_.begin(); one != running_.end() && budget > 0; ++one) {
    if (one->missing() != 1)
      continue;
    if (!reserve(one, 1))
      return; // it was the youngest itself
    --budget;
  }
}

/// Urgent prompts, the oldest first, in steps that may take longer than others. They leave half of
/// every other step to those that they passed over in the one before.
void step_planner::give_urgent_rows(uint32_t& budget) {
  auto rows_max = prompt_budget(budget, true);
  if (passed_over_)
    rows_max = (rows_max + 1) / 2;
  for (auto one = running_.begin(); one != running_.end() && rows_max > 0; ++one) {
    if (!one->request.urgent || one->missing() <= 1)
      continue;
    const auto rows = static_cast<uint32_t>(std::min<size_t>(one->missing(), rows_max));
    if (!reserve(one, rows))
      return;
    rows_max -= rows;
    budget -= rows;
  }
}

/// Half of the rows, or more, for the oldest prompt, so that it ends however many follow it; the
/// rest for the shortest ones, which should not wait for a long one's end.
void step_planner::give_prompt_rows(uint32_t budget) {
  const auto lacks_rows = [](const sequence& one) { return one.missing() > 1 && one.rows == 0; };
  const auto give = [&](std::list<sequence>::iterator one, size_t most) {
    const auto rows = static_cast<uint32_t>(std::min(one->missing(), most));
    if (!reserve(one, one->rows + rows))
      return false;
    budget -= rows;
    return true;
  };
  const auto oldest = std::find_if(running_.begin(), running_.end(), lacks_rows);
  if (oldest == running_.end() || budget == 0 || !give(oldest, (budget + 1) / 2))
    return;
  while (budget > 0) {
    auto shortest = running_.end();
    for (auto one = oldest; one != running_.end(); ++one)
      if (lacks_rows(*one) && (shortest == running_.end() || one->missing() < shortest->missing()))
        shortest = one;
    if (shortest == running_.end())
      break;
    if (!give(shortest, budget))
      return;
  }
  if (budget > 0 && oldest->rows < oldest->missing())
    give(oldest, std::min<size_t>(budget, oldest->missing() - oldest->rows));
}

/// Prompt rows that the step has time for beside the rows that are planned.
uint32_t step_planner::prompt_budget(uint32_t rows_max, bool urgent) const {
  const auto prompt = std::find_if(running_.begin(), running_.end(), [&](const sequence& one) {
    return one.missing() > 1 && (one.request.urgent || !urgent);
  });
  if (prompt == running_.end())
    return 0;
  auto config = limits_.budget;
  if (passed_over_ && !urgent)
    config.prompt_rows_min = 0;
  policies::step_shape all;
  for (const auto& one : running_)
    all = all + policies::step_shape{1, static_cast<double>(one.size())};
  return policies::prompt_rows(config, cost_, shape(), all, prompt->computed, rows_max, urgent);
}

policies::step_shape step_planner::shape() const {
  policies::step_shape out;
  for (const auto& one : running_) {
    const auto rows = static_cast<double>(one.rows);
    out.rows += rows;
    out.pairs += rows * (static_cast<double>(one.computed) + (rows + 1) / 2);
  }
  return out;
}

bool step_planner::plan() {
  moves_.clear();
  is_planning_ = true;
  admit();
  for (auto& one : running_) {
    one.rows = 0;
    one.draft.clear();
  }
  give_rows();
  const auto rows = static_cast<uint32_t>(shape().rows);
  if (limits_.draft_max > 0)
    draft(rows);
  is_planning_ = false;
  blocks_.trim();
  return rows > 0;
}

void step_planner::give_rows() {
  uint32_t budget = limits_.rows_max;
  give_decoding_rows(budget);
  const auto left = budget;
  give_urgent_rows(budget);
  passed_over_ = budget < left && !passed_over_;
  give_prompt_rows(prompt_budget(budget, false));
}

} // namespace troupe::engine
