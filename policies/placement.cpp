#include "policies/placement.hpp"

#include <algorithm>
#include <tuple>

namespace troupe::policies {

namespace {

uint64_t used_bytes(const worker_space& worker) {
  uint64_t used = 0;
  for (const auto& x : worker.models)
    used += x.bytes;
  return used;
}

/// The models that `may` go, busy ones last and else least recently used first, until `bytes` fit;
/// nothing if they never do.
template <class Predicate>
std::optional<std::vector<placed_model>> make_room(const worker_space& worker, uint64_t bytes,
                                                   Predicate may) {
  std::vector<placed_model> candidates;
  auto used = used_bytes(worker);
  for (const auto& x : worker.models)
    if (may(x))
      candidates.push_back(x);
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::tie(a.closable, a.last_used, a.model) < std::tie(b.closable, b.last_used, b.model);
  });
  std::vector<placed_model> out;
  const auto fits = [&] {
    return bytes <= worker.limit_bytes && used <= worker.limit_bytes - bytes;
  };
  for (auto& x : candidates) {
    if (fits())
      break;
    used -= x.bytes;
    out.push_back(std::move(x));
  }
  if (!fits())
    return std::nullopt;
  return out;
}

uint64_t sum(const std::vector<placed_model>& models) {
  uint64_t bytes = 0;
  for (const auto& x : models)
    bytes += x.bytes;
  return bytes;
}

} // namespace

std::optional<placement> find_place(const std::vector<worker_space>& workers, uint64_t bytes) {
  std::optional<placement> best;
  std::tuple<uint64_t, uint64_t> best_cost; // evicted, used: the smaller the better
  for (const auto& worker : workers) {
    auto victims =
        make_room(worker, bytes, [](const placed_model& x) { return x.idle && !x.pinned; });
    if (!victims)
      continue;
    const auto free = worker.limit_bytes - std::min(worker.limit_bytes, used_bytes(worker));
    const auto cost = std::make_tuple(sum(*victims), UINT64_MAX - free);
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
find_models_to_close(const std::vector<worker_space>& workers, uint64_t bytes) {
  std::vector<std::pair<worker_id, model_id>> best;
  uint64_t best_cost = UINT64_MAX;
  for (const auto& worker : workers) {
    const auto victims = make_room(worker, bytes, [](const placed_model& x) {
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

uint64_t largest_space(const std::vector<worker_space>& workers) {
  uint64_t best = 0;
  for (const auto& worker : workers) {
    uint64_t pinned = 0;
    for (const auto& x : worker.models)
      if (x.pinned)
        pinned += x.bytes;
    best = std::max(best, worker.limit_bytes - std::min(worker.limit_bytes, pinned));
  }
  return best;
}

} // namespace troupe::policies
