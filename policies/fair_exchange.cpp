#include "policies/fair_exchange.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace troupe::policies {

fair_exchange::fair_exchange(virtual_token_counter& queue, uint64_t self)
    : queue_{queue}, self_{self} {
  queue_.on_service([this](fair_priority priority, uint64_t organisation, double service) {
    for (auto& [id, peer] : peers_)
      peer.later[{priority, organisation}] += service;
  });
}

void fair_exchange::add_peer(uint64_t peer) { peers_.try_emplace(peer); }

void fair_exchange::remove_peer(uint64_t peer) {
  peers_.erase(peer);
  raise_entries();
}

fair_digest fair_exchange::digest_for(uint64_t peer) {
  fair_digest out{.sender = self_};
  const auto found = peers_.find(peer);
  if (found == peers_.end())
    return out;
  auto& state = found->second;
  out.number = state.number;
  out.whole = !state.greeted;
  if (!state.made) {
    state.sent = std::exchange(state.later, {});
    state.made = true;
  }
  // What came since the digest was first made is not in `service`, so not in the level either.
  const auto tell = [&](const tenant& who, double level, double service) {
    const auto later = state.later.find(who);
    level -= later == state.later.end() ? 0 : later->second;
    out.entries.push_back({who.first, who.second, service, level});
  };
  for (const auto& [who, service] : state.sent)
    tell(who, queue_.level(who.first, who.second).value_or(0), service);
  for (size_t i = 0; i < fair_priorities; ++i) {
    const auto priority = static_cast<fair_priority>(i);
    out.floor[i] = queue_.floor(priority);
    if (state.greeted)
      continue;
    for (const auto& [organisation, level] : queue_.levels(priority))
      if (!state.sent.contains({priority, organisation}))
        tell({priority, organisation}, level, 0);
  }
  return out;
}

void fair_exchange::apply(const fair_digest& digest) {
  const auto found = peers_.find(digest.sender);
  if (found == peers_.end() || digest.number <= found->second.applied)
    return;
  auto& state = found->second;
  state.applied = digest.number;
  state.floor = digest.floor;
  for (const auto& x : digest.entries) {
    queue_.served_elsewhere(x.priority, x.organisation, x.service,
                            std::numeric_limits<double>::infinity());
    queue_.raise(x.priority, x.organisation, x.level);
  }
  raise_entries();
}

void fair_exchange::acknowledged(uint64_t peer, uint64_t number) {
  const auto found = peers_.find(peer);
  if (found == peers_.end() || !found->second.made || found->second.number != number)
    return;
  auto& state = found->second;
  state.greeted = true;
  state.made = false;
  state.sent.clear();
  ++state.number;
}

/// Who comes back here is lifted to the least counter that waits anywhere.
void fair_exchange::raise_entries() {
  for (size_t i = 0; i < fair_priorities; ++i) {
    const auto priority = static_cast<fair_priority>(i);
    auto least = queue_.floor(priority);
    for (const auto& [id, peer] : peers_)
      if (peer.floor[i])
        least = std::min(least.value_or(*peer.floor[i]), *peer.floor[i]);
    if (least)
      queue_.raise_entry(priority, *least);
  }
}

double exchange_drift_bound(double charge_max, size_t schedulers, double unknown, double weight_f,
                            double weight_g, size_t disturbances) {
  const auto n = static_cast<double>(schedulers), k = static_cast<double>(disturbances);
  return (1 + k) * (n * charge_max + (n - 1) * unknown) * (1 / weight_f + 1 / weight_g) +
         k * unknown / std::min(weight_f, weight_g);
}

} // namespace troupe::policies
