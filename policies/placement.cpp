#include "policies/placement.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <tuple>

namespace troupe::policies {

namespace {

footprint used(const worker_space& worker) {
  footprint out;
  for (const auto& x : worker.models)
    out += x.takes;
  return out;
}

/// Seconds of loading that keeping it saves, each second and for each byte that it takes.
double density(const placed_model& x) {
  return x.reload_seconds * x.use_rate /
         static_cast<double>(std::max<uint64_t>(x.takes.own_bytes, 1));
}

/// Seconds that it is expected to cost soon that these went.
double expected_loss(const std::vector<placed_model>& gone) {
  constexpr double soon_seconds = 60;
  double out = 0;
  for (const auto& x : gone)
    out -= x.reload_seconds * std::expm1(-x.use_rate * soon_seconds);
  return out;
}

/// The models that `may` go, busy ones last and else those worth least first, until there is room
/// for what `takes` that much; nothing if there never is.
template <class Predicate>
std::optional<std::vector<placed_model>> make_room(const worker_space& worker,
                                                   const footprint& takes, Predicate may) {
  std::vector<placed_model> candidates;
  auto kept = takes;
  for (const auto& x : worker.models)
    if (may(x))
      candidates.push_back(x);
    else
      kept += x.takes;
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::make_tuple(a.closable, density(a), a.last_used, std::cref(a.model)) >
           std::make_tuple(b.closable, density(b), b.last_used, std::cref(b.model));
  });
  // From the last to go on, those stay that still fit together.
  auto going = candidates.begin();
  for (; going != candidates.end(); ++going) {
    auto with = kept;
    with += going->takes;
    if (with.all() > worker.limit_bytes)
      break;
    kept = with;
  }
  if (kept.all() > worker.limit_bytes)
    return std::nullopt;
  return std::vector<placed_model>{std::make_reverse_iterator(candidates.end()),
                                   std::make_reverse_iterator(going)};
}

uint64_t sum(const std::vector<placed_model>& models) {
  uint64_t bytes = 0;
  for (const auto& x : models)
    bytes += x.takes.own_bytes;
  return bytes;
}

} // namespace

std::optional<placement> find_place(const std::vector<worker_space>& workers,
                                    const footprint& takes) {
  std::optional<placement> best;
  // hundredths of seconds, evicted, used: the smaller the better
  std::tuple<long long, uint64_t, uint64_t> best_cost;
  for (const auto& worker : workers) {
    auto victims =
        make_room(worker, takes, [](const placed_model& x) { return x.idle && !x.pinned; });
    if (!victims)
      continue;
    const auto free = worker.limit_bytes - std::min(worker.limit_bytes, used(worker).all());
    const auto seconds = worker.load_seconds + expected_loss(*victims);
    const auto cost =
        std::make_tuple(std::llround(100 * seconds), sum(*victims), UINT64_MAX - free);
    if (best && cost >= best_cost)
      continue;
    best = placement{worker.worker, {}};
    for (auto& x : *victims)
      best->evict.push_back(std::move(x.model));
    best_cost = cost;
  }
  return best;
}

std::vector<std::pair<worker_id, model_id>>
find_models_to_close(const std::vector<worker_space>& workers, const footprint& takes) {
  std::vector<std::pair<worker_id, model_id>> best;
  uint64_t best_cost = UINT64_MAX;
  for (const auto& worker : workers) {
    const auto victims = make_room(worker, takes, [](const placed_model& x) {
      return !x.pinned && (x.idle || x.leaving || x.closable);
    });
    if (!victims || sum(*victims) >= best_cost)
      continue;
    best_cost = sum(*victims);
    best.clear();
    for (const auto& x : *victims)
      if (x.closable)
        best.emplace_back(worker.worker, x.model);
  }
  return best;
}

uint64_t largest_space(const std::vector<worker_space>& workers, uint64_t workspace_bytes) {
  uint64_t best = 0;
  for (const auto& worker : workers) {
    footprint pinned{0, workspace_bytes};
    for (const auto& x : worker.models)
      if (x.pinned)
        pinned += x.takes;
    if (pinned.all() <= worker.limit_bytes)
      best = std::max(best, worker.limit_bytes - pinned.all() + workspace_bytes);
  }
  return best;
}

} // namespace troupe::policies
