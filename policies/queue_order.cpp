#include "policies/queue_order.hpp"

namespace troupe::policies {

void fcfs_order::push(const waiting_sequence& sequence) {
  erase(sequence.id);
  const auto turn = turn_of(sequence);
  by_turn_.emplace(turn, sequence);
  turns_.emplace(sequence.id, turn);
  since_.insert(sequence.since);
}

std::optional<waiting_sequence> fcfs_order::pop() {
  if (by_turn_.empty())
    return std::nullopt;
  const auto first = by_turn_.begin()->second;
  erase(first.id);
  return first;
}

bool fcfs_order::erase(sequence_id id) {
  const auto at = turns_.find(id);
  if (at == turns_.end())
    return false;
  const auto entry = by_turn_.find(at->second);
  since_.erase(since_.find(entry->second.since));
  by_turn_.erase(entry);
  turns_.erase(at);
  return true;
}

std::optional<instant> fcfs_order::oldest() const {
  if (since_.empty())
    return std::nullopt;
  return *since_.begin();
}

std::vector<waiting_sequence> fcfs_order::list() const {
  std::vector<waiting_sequence> out;
  out.reserve(by_turn_.size());
  for (const auto& [turn, sequence] : by_turn_)
    out.push_back(sequence);
  return out;
}

} // namespace troupe::policies
