#include "policies/fair_monitor.hpp"

#include <algorithm>

namespace troupe::policies {

void fair_monitor::waits(uint64_t tenant, double weight, const std::string& name) {
  if (tenants_.size() >= tenants_max_ || tenants_.contains(tenant))
    return;
  for (const auto& [other, x] : tenants_) {
    // The difference is always that of the smaller id less that of the greater.
    const auto gap = other < tenant ? x.service : -x.service;
    pairs_[std::minmax(other, tenant)] = {gap, gap};
  }
  tenants_[tenant] = {name, weight, 0};
}

void fair_monitor::left(uint64_t tenant) {
  tenants_.erase(tenant);
  std::erase_if(pairs_,
                [&](const auto& x) { return x.first.first == tenant || x.first.second == tenant; });
}

void fair_monitor::served(uint64_t tenant, double cost) {
  const auto at = tenants_.find(tenant);
  if (at == tenants_.end())
    return;
  at->second.service += cost / at->second.weight;
  for (auto& [other, x] : tenants_) {
    if (other == tenant)
      continue;
    const auto key = std::minmax(other, tenant);
    const auto gap = tenants_.at(key.first).service - tenants_.at(key.second).service;
    auto& range = pairs_.at(key);
    range.low = std::min(range.low, gap);
    range.high = std::max(range.high, gap);
  }
}

std::vector<pair_drift> fair_monitor::pairs(double charge_max) const {
  std::vector<pair_drift> out;
  for (const auto& [key, x] : pairs_) {
    const auto &f = tenants_.at(key.first), &g = tenants_.at(key.second);
    out.push_back({f.name, g.name, x.high - x.low, charge_max * (1 / f.weight + 1 / g.weight)});
  }
  return out;
}

} // namespace troupe::policies
