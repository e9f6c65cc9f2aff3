#include "policies/load_cost.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::policies {

namespace {

constexpr double slowest_rate = 1e3;

// Gains: what a load counts against those before. An error beyond three times the usual one is
// taken for a change of the machine once a second load says the same.
constexpr double usual_gain = 0.2, changed_gain = 0.8, spread_gain = 0.15;
constexpr double spread_min = 0.02;

} // namespace

rate_estimate::rate_estimate(double bytes_per_second)
    : log_rate_{std::log(std::max(bytes_per_second, slowest_rate))} {}

double rate_estimate::bytes_per_second() const { return std::exp(log_rate_); }

void rate_estimate::observe(double bytes_per_second) {
  const auto error = std::log(std::max(bytes_per_second, slowest_rate)) - log_rate_;
  const int sign = error > 0 ? 1 : -1;
  if (std::abs(error) <= 3 * spread_) {
    surprises_ = 0;
    spread_ = std::max(spread_min, spread_ + spread_gain * (std::abs(error) - spread_));
    log_rate_ += usual_gain * error;
    return;
  }
  surprises_ = surprises_ * sign > 0 ? surprises_ + sign : sign;
  log_rate_ += (std::abs(surprises_) >= 2 ? changed_gain : usual_gain) * error;
}

load_cost::load_cost(const tier_bytes& probed, double overhead_seconds)
    : rates_{rate_estimate{probed[0]}, rate_estimate{probed[1]}, rate_estimate{probed[2]}},
      overhead_seconds_{overhead_seconds} {}

double load_cost::time_of(const load_demand& load, size_t tier) const {
  // What others get first costs nothing where this load wants nothing.
  if (load.wanted[tier] <= 0)
    return 0;
  return (load.wanted[tier] + load.queued[tier]) / rates_[tier].bytes_per_second();
}

size_t load_cost::slowest(const load_demand& load) const {
  size_t out = 0;
  for (size_t i = 1; i < load_tier_count; ++i)
    if (time_of(load, i) > time_of(load, out))
      out = i;
  return out;
}

double load_cost::seconds(const load_demand& load) const {
  return overhead_seconds_ + time_of(load, slowest(load));
}

double load_cost::first_token_seconds(const load_demand& load, double prefill_seconds,
                                      uint32_t layers, bool runs_while_loading) const {
  const auto loading = seconds(load);
  if (!runs_while_loading)
    return loading + prefill_seconds;
  // A prefill that takes longer than the load is not hidden by it, whatever the overlap.
  return std::max(loading + prefill_seconds / std::max(layers, 1u), prefill_seconds);
}

void load_cost::observe(const load_demand& load, double seconds) {
  const auto tier = slowest(load);
  const auto bytes = load.wanted[tier] + load.queued[tier];
  if (load.wanted[tier] > 0 && seconds > overhead_seconds_)
    rates_[tier].observe(bytes / (seconds - overhead_seconds_));
}

double load_cost::bytes_per_second(load_tier tier) const {
  return rates_[static_cast<size_t>(tier)].bytes_per_second();
}

bool may_start_early(double bytes_left, double bytes_per_second, double seconds_max) {
  return bytes_left <= seconds_max * bytes_per_second;
}

} // namespace troupe::policies
