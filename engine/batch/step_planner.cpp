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

void step_planner::admit() {
  // What the running ones still lack for their prompts is spoken for.
  int64_t spoken_for = 0;
  for (const auto& one : running_)
    spoken_for += int64_t{blocks_for(one.size() + 1)} - static_cast<int64_t>(one.blocks.size());
  while (!waiting_.empty() && running_.size() < limits_.sequences_max) {
    spoken_for += blocks_for(waiting_.front().size() + 1);
    // Alone it may always start: `add` made sure that it fits.
    if (!running_.empty() && spoken_for > blocks_.available())
      return;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void step_planner::preempt_youngest() {
  auto& victim = running_.back();
  blocks_.give_back(victim.blocks);
  victim.computed = 0;
  victim.rows = 0;
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

bool step_planner::plan() {
  admit();
  for (auto& one : running_)
    one.rows = 0;
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
  return std::any_of(running_.begin(), running_.end(),
                     [](const sequence& one) { return one.rows > 0; });
}

} // namespace troupe::engine
