#include "policies/arrivals.hpp"

#include <algorithm>
#include <cmath>

namespace troupe::policies {

namespace {

/// What was known counts so much less after each pause of the same model, of any model.
constexpr double own_memory = 0.97, all_memory = 0.999;
/// What all models did counts as much as so many pauses of one's own.
constexpr double prior_weight = 3;
/// Before anything was seen every bin has this weight: pauses of every length are about as likely.
constexpr double blank_weight = 0.05;
/// Models beyond so many are not told apart.
constexpr size_t models_max = 65536;

double seconds_of(duration x) { return std::chrono::duration<double>(x).count(); }

double bin_begin(size_t bin) { return bin == 0 ? 0 : std::exp2(static_cast<double>(bin) - 1); }

size_t bin_of(double seconds, size_t bins) {
  return seconds < 1 ? 0 : std::min(static_cast<size_t>(std::log2(seconds)) + 1, bins - 1);
}

} // namespace

void arrivals::note(const model_id& model, instant now) {
  const auto at = models_.find(model);
  if (at == models_.end()) {
    if (models_.size() < models_max)
      models_[model].last = now;
    return;
  }
  auto& own = at->second;
  const auto bin = bin_of(seconds_of(now - own.last), bin_count);
  own.last = now;
  const auto add = [bin](histogram& to, double& weight, double memory) {
    for (auto& x : to)
      x *= memory;
    to[bin] += 1;
    weight = weight * memory + 1;
  };
  add(own.pauses, own.weight, own_memory);
  add(all_, all_weight_, all_memory);
}

/// A model's own pauses and those of all; sums to more than 0.
arrivals::histogram arrivals::mixed(const history* of) const {
  histogram out;
  const auto blank = blank_weight * bin_count;
  for (size_t i = 0; i < bin_count; ++i) {
    const auto usual = (all_[i] + blank_weight) / (all_weight_ + blank);
    out[i] = prior_weight * usual + (of != nullptr ? of->pauses[i] : 0);
  }
  return out;
}

/// The weight of pauses that are longer. Within a bin they are spread evenly by their logarithms,
/// as the bins are; the last one never ends.
double arrivals::beyond(const histogram& in, double seconds) {
  const auto bin = bin_of(seconds, bin_count);
  double out = 0;
  for (size_t i = bin + 1; i < bin_count; ++i)
    out += in[i];
  if (bin + 1 == bin_count)
    return in[bin] * bin_begin(bin) / std::max(seconds, bin_begin(bin));
  return out + in[bin] * (bin == 0 ? 1 - seconds : std::log2(bin_begin(bin + 1) / seconds));
}

double arrivals::use_within_after(const model_id& model, duration idle, duration horizon) const {
  const auto at = models_.find(model);
  if (at == models_.end())
    return 0;
  const auto pauses = mixed(&at->second);
  const auto since = std::max(seconds_of(idle), 0.0);
  const auto left = beyond(pauses, since);
  const auto later = beyond(pauses, since + std::max(seconds_of(horizon), 0.0));
  return left > 0 ? std::clamp((left - later) / left, 0.0, 1.0) : 0;
}

double arrivals::use_within(const model_id& model, instant now, duration horizon) const {
  const auto at = models_.find(model);
  return at == models_.end() ? 0 : use_within_after(model, now - at->second.last, horizon);
}

double arrivals::rate(const model_id& model, instant now) const {
  constexpr auto moment = std::chrono::seconds{10};
  const auto chance = std::min(use_within(model, now, moment), 0.999);
  return -std::log1p(-chance) / seconds_of(moment);
}

duration arrivals::worth_keeping(const model_id& model, double reload_seconds, double price) const {
  constexpr auto longest = std::chrono::hours{24};
  const auto at = models_.find(model);
  const auto pauses = mixed(at == models_.end() ? nullptr : &at->second);
  // Keeping for T saves a reload if the pause is shorter, and costs the time until then: the best T
  // of those where a bin ends.
  const auto whole = beyond(pauses, 0);
  double best = 0, best_gain = 0, held = 0;
  for (size_t i = 0; i < bin_count; ++i) {
    const auto begin = bin_begin(i), end = i + 1 < bin_count ? bin_begin(i + 1) : 2 * begin;
    const auto before = beyond(pauses, begin), after = beyond(pauses, end);
    held += (before + after) / 2 / whole * (end - begin); // mean of min(pause, T) up to here
    const auto gain = reload_seconds * (whole - after) / whole - price * held;
    if (gain > best_gain) {
      best_gain = gain;
      best = end;
    }
  }
  return std::min<duration>(
      longest, std::chrono::duration_cast<duration>(std::chrono::duration<double>{best}));
}

} // namespace troupe::policies
