#include "actors/request_log.hpp"

namespace troupe::actors {

void request_log::put(request_record record) {
  if (size_ == 0)
    return;
  const std::lock_guard guard{mutex_};
  const auto number = record.number;
  if (record.state == request_state::finished && record.is_cold && !record.load)
    if (const auto at = last_loads_.find(record.model);
        at != last_loads_.end() && at->second.second >= record.received)
      record.load = at->second.first;
  if (!held_.contains(number)) {
    if (held_.size() >= size_)
      forget_oldest();
    for (const auto& id : {record.id.text, record.answer_id})
      if (!id.empty())
        by_id_[id] = number;
  }
  held_[number] = std::move(record);
}

void request_log::add_load(const model_id& model, const request_load& load) {
  const std::lock_guard guard{mutex_};
  last_loads_[model] = {load, std::chrono::system_clock::now()};
  for (auto& [number, one] : held_)
    if (one.model == model && one.state == request_state::finished && one.is_cold && !one.load)
      one.load = load;
}

void request_log::forget_oldest() {
  const auto oldest = held_.begin();
  for (const auto& id : {oldest->second.id.text, oldest->second.answer_id})
    if (const auto at = by_id_.find(id); at != by_id_.end() && at->second == oldest->first)
      by_id_.erase(at);
  held_.erase(oldest);
}

std::optional<request_record> request_log::find(const std::string& id) const {
  const std::lock_guard guard{mutex_};
  const auto at = by_id_.find(id);
  if (at == by_id_.end())
    return std::nullopt;
  return held_.at(at->second);
}

std::vector<request_record> request_log::newest(size_t count) const {
  const std::lock_guard guard{mutex_};
  std::vector<request_record> out;
  for (auto at = held_.rbegin(); at != held_.rend() && out.size() < count; ++at)
    out.push_back(at->second);
  return out;
}

} // namespace troupe::actors
