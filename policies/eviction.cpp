#include "policies/eviction.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace troupe::policies {

namespace {

double faded(double heat, double idle_seconds) {
  return heat * std::exp2(-idle_seconds / heat_half_life_seconds);
}

} // namespace

double warmed(double heat, double idle_seconds) {
  return 1 + faded(heat, std::max(idle_seconds, 0.0));
}

double recency_worth(const cached_item& item) { return -item.idle_seconds; }

double reuse_worth(const cached_item& item) {
  const auto idle = std::max(item.idle_seconds, 0.0);
  // Uses at a constant rate r make a heat of r * half-life / ln 2.
  const auto popularity = faded(item.heat, idle) * std::numbers::ln2 / heat_half_life_seconds;
  return item.reload_seconds * (popularity + 1 / (idle + burst_pause_seconds));
}

} // namespace troupe::policies
