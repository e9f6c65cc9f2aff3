#include "policies/load_cost.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace troupe::policies {

namespace {

constexpr double slowest_rate = 1e3;

// Gains: what a load counts against those before. An error beyond three times the usual one is
// taken for a change of the machine once a second load says the same, and the loads since then are
// averaged; alone it counts as much as a usual error does.
constexpr double usual_gain = 0.2, spread_gain = 0.15;
constexpr double spread_min = 0.02;

constexpr double overlap_gain = 0.3;
/// Of two pieces of work, one that is shorter than this part of the other shows no overlap.
constexpr double telling_share = 0.1;

/// Names beyond so many share what was learned from all.
constexpr size_t names_max = 1024;

const rate_estimate* find(const std::map<std::string, rate_estimate>& in, const std::string& name) {
  const auto at = in.find(name);
  return at == in.end() ? nullptr : &at->second;
}

void learn(std::map<std::string, rate_estimate>& in, const std::string& name, double rate) {
  if (const auto at = in.find(name); at != in.end())
    at->second.observe(rate);
  else if (in.size() < names_max)
    in.emplace(name, rate_estimate{rate});
}

} // namespace

rate_estimate::rate_estimate(double bytes_per_second)
    : log_rate_{std::log(std::max(bytes_per_second, slowest_rate))} {}

double rate_estimate::bytes_per_second() const { return std::exp(log_rate_); }

void rate_estimate::observe(double bytes_per_second) {
  const auto error = std::log(std::max(bytes_per_second, slowest_rate)) - log_rate_;
  const auto usual = 3 * spread_;
  const auto learn_spread = [this](double size) {
    spread_ = std::max(spread_min, spread_ + spread_gain * (size - spread_));
  };
  if (std::abs(error) <= usual) {
    surprises_ = 0;
    learn_spread(std::abs(error));
    log_rate_ += usual_gain * error;
    return;
  }
  const int sign = error > 0 ? 1 : -1;
  surprises_ = surprises_ * sign > 0 ? surprises_ + sign : sign;
  if (std::abs(surprises_) >= 2) {
    log_rate_ += std::max(usual_gain, 1.0 / (std::abs(surprises_) - 1)) * error;
    return;
  }
  log_rate_ += usual_gain * sign * usual;
  learn_spread(usual); // where every load is odd, that is the noise
}

double overlap_estimate::joined(double a, double b) const {
  return std::max(a, b) + (1 - share_) * std::min(a, b);
}

void overlap_estimate::observe(double a, double b, double joined) {
  const auto shorter = std::min(a, b), longer = std::max(a, b);
  if (shorter <= telling_share * longer)
    return;
  const auto share = std::clamp(1 - (joined - longer) / shorter, 0.0, 1.0);
  share_ += (is_measured_ ? overlap_gain : 1) * (share - share_);
  is_measured_ = true;
}

load_cost::load_cost(const tier_bytes& probed, double overhead_seconds)
    : tiers_{{{rate_estimate{unmeasured_rates[0]}},
              {rate_estimate{unmeasured_rates[1]}},
              {rate_estimate{unmeasured_rates[2]}},
              {rate_estimate{unmeasured_rates[3]}},
              {rate_estimate{unmeasured_rates[4]}},
              {rate_estimate{unmeasured_rates[5]}}}},
      overhead_seconds_{overhead_seconds} {
  for (size_t i = 0; i < load_tier_count; ++i)
    probe(static_cast<load_tier>(i), probed[i]);
}

void load_cost::tier_state::observe(double bytes_per_second) {
  if (std::exchange(is_measured, true))
    rate.observe(bytes_per_second);
  else
    rate = rate_estimate{bytes_per_second};
}

double load_cost::time_of(const load_demand& load, size_t tier) const {
  // What others get first costs nothing where this load wants nothing.
  if (load.wanted[tier] <= 0)
    return 0;
  return (load.wanted[tier] + load.queued[tier]) / tiers_[tier].rate.bytes_per_second();
}

size_t load_cost::slowest(const load_demand& load) const {
  size_t out = 1;
  for (size_t i = 2; i < load_tier_count; ++i)
    if (time_of(load, i) > time_of(load, out))
      out = i;
  return out;
}

double load_cost::fetch_rate(const std::string& source) const {
  const auto* known = find(sources_, source);
  return (known != nullptr ? *known : tiers_[0].rate).bytes_per_second();
}

double load_cost::bind_rate(const std::string& binding) const {
  const auto* known = find(bindings_, binding);
  return (known != nullptr ? *known : any_binding_.rate).bytes_per_second();
}

/// The tier that the weights come from last.
size_t load_cost::bringing_tier(const load_demand& load, const load_phases& took) const {
  return took.fetch > took.read ? 0 : slowest(load);
}

load_phases load_cost::predict(const load_demand& load) const {
  load_phases out;
  out.queued = load.queue_seconds;
  if (load.wanted[0] > 0)
    out.fetch = (load.wanted[0] + load.queued[0]) / fetch_rate(load.source);
  out.read = overhead_seconds_ + time_of(load, slowest(load));
  out.bytes = fetching_.joined(out.fetch, out.read);
  if (load.bind_bytes > 0)
    out.bind = load.bind_bytes / bind_rate(load.binding);
  const auto& own = binding_[bringing_tier(load, out)];
  const auto& binding = own.is_measured() ? own : any_joined_binding_;
  out.total = out.queued + binding.joined(out.bytes, out.bind);
  return out;
}

void load_cost::learn_read(const load_demand& load, double seconds) {
  const auto tier = slowest(load);
  const auto bytes = load.wanted[tier] + load.queued[tier];
  auto& state = tiers_[tier];
  if (load.wanted[tier] <= 0 || seconds <= 0)
    return;
  // Of a small load the time is mostly overhead, and says nothing about the tier.
  if (const auto expected = time_of(load, tier); expected < overhead_seconds_) {
    overhead_seconds_ +=
        usual_gain * (std::clamp(seconds - expected, 1e-5, 0.1) - overhead_seconds_);
    return;
  }
  if (seconds <= overhead_seconds_)
    return;
  const auto rate = bytes / (seconds - overhead_seconds_);
  state.observe(rate);
}

void load_cost::observe(const load_demand& load, const load_phases& took) {
  if (load.wanted[0] > 0 && took.fetch > 0) {
    const auto rate = (load.wanted[0] + load.queued[0]) / took.fetch;
    learn(sources_, load.source, rate);
    tiers_[0].observe(rate);
  }
  learn_read(load, took.read);
  if (load.bind_bytes > 0 && took.bind > 0) {
    learn(bindings_, load.binding, load.bind_bytes / took.bind);
    any_binding_.observe(load.bind_bytes / took.bind);
  }
  if (took.fetch > 0 && took.read > 0 && took.bytes > 0)
    fetching_.observe(took.fetch, took.read, took.bytes);
  if (took.bytes > 0 && took.bind > 0 && took.total > 0) {
    binding_[bringing_tier(load, took)].observe(took.bytes, took.bind, took.total - took.queued);
    any_joined_binding_.observe(took.bytes, took.bind, took.total - took.queued);
  }
}

void load_cost::probe(load_tier tier, double bytes_per_second) {
  auto& state = tiers_[static_cast<size_t>(tier)];
  if (!state.is_measured && bytes_per_second > 0)
    state.rate = rate_estimate{bytes_per_second};
}

double load_cost::bytes_per_second(load_tier tier) const {
  return tiers_[static_cast<size_t>(tier)].rate.bytes_per_second();
}

bool may_start_early(double bytes_left, double bytes_per_second, double seconds_max) {
  return bytes_left <= seconds_max * bytes_per_second;
}

double prefill_left(const load_phases& load, double prefill_seconds, uint32_t layers,
                    double early_seconds) {
  const auto beside = std::clamp(load.total - load.queued - load.bind, 0.0, early_seconds);
  return std::max(prefill_seconds - beside, prefill_seconds / std::max(layers, 1u));
}

} // namespace troupe::policies
