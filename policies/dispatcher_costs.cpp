#include <algorithm>
#include <iterator>
#include <utility>

#include "policies/dispatcher.hpp"
#include "policies/load_cost.hpp"

/// What loads cost, and so what is kept, and where.
namespace troupe::policies {

void dispatcher::note_load_cost(worker_id worker, const model_id& model, double seconds) {
  const auto at = workers_.find(worker);
  if (at != workers_.end() && models_.contains(model) && seconds > 0)
    at->second.load_seconds[model] = seconds;
}

/// As from a slow disk if nobody has looked.
double dispatcher::load_seconds(const worker_state& worker, const model_id& model) const {
  if (const auto at = worker.load_seconds.find(model); at != worker.load_seconds.end())
    return at->second;
  return static_cast<double>(models_.at(model).takes.own_bytes) /
         unmeasured_rates[static_cast<size_t>(load_tier::disk)];
}

/// Where it is cheapest.
double dispatcher::reload_seconds(const model_state& model) const {
  std::optional<double> out;
  for (const auto& [id, worker] : workers_) {
    const auto there = load_seconds(worker, model.spec.id);
    out = std::min(out.value_or(there), there);
  }
  return out.value_or(0);
}

/// Of the loads that are under way or wait for room.
double dispatcher::queue_seconds(const worker_state& worker) const {
  double out = 0;
  for (const auto& [id, x] : worker.residents)
    if (x.state == residence::reserved || x.state == residence::loading ||
        x.state == residence::coming)
      out += load_seconds(worker, id);
  return out;
}

void dispatcher::note_arrival(model_state& model, instant now) {
  arrivals_.note(model.spec.id, now);
  model.is_prefetched = false;
  if (config_.prefetch)
    away_.insert(model.spec.id);
}

bool dispatcher::may_be_prefetched(const model_state& model) const {
  return model.at.empty() && model.queue.size() == 0 && !model.is_prefetched && model.error.empty();
}

/// Those that went and are likely to be back soon come nearer, where they would run soonest.
void dispatcher::look_ahead(instant now, std::vector<intent>& out) {
  constexpr double likely = 0.1; // tests/bench/keep_alive_bench.cpp
  if (away_.empty() || now < looked_ahead_ + look_pause)
    return;
  looked_ahead_ = now;
  for (auto at = away_.begin(); at != away_.end();) {
    auto& model = models_.at(*at);
    const auto best =
        std::min_element(workers_.begin(), workers_.end(), [&](const auto& a, const auto& b) {
          return std::make_pair(a.second.leaving, load_seconds(a.second, *at)) <
                 std::make_pair(b.second.leaving, load_seconds(b.second, *at));
        });
    const bool wanted =
        may_be_prefetched(model) && arrivals_.use_within(*at, now, look_horizon) >= likely;
    if (wanted && best != workers_.end() && !best->second.leaving) {
      out.emplace_back(prefetch_intent{*at, best->first, arrivals_.rate(*at, now)});
      model.is_prefetched = true;
    }
    at = model.is_prefetched ? away_.erase(at) : std::next(at);
  }
}

duration dispatcher::keep_alive_of(const model_state& model) const {
  const auto asked = model.keep_alive.value_or(model.spec.keep_alive.value_or(config_.keep_alive));
  if (asked != auto_keep_alive)
    return asked;
  constexpr double gigabyte = 1e9;
  const auto held = static_cast<double>(model.takes.own_bytes) / gigabyte;
  return arrivals_.worth_keeping(model.spec.id, reload_seconds(model),
                                 held * config_.price_of_memory);
}

} // namespace troupe::policies
