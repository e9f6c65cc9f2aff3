#include "engine/model/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace troupe::engine {

namespace {

/// Llama 3: long waves are stretched by `factor`, short ones stay, those between are blended.
double llama3_frequency(double frequency, const rope_config& config) {
  const double waves = config.original_context * frequency / (2.0 * std::numbers::pi);
  if (waves < config.low_freq_factor)
    return frequency / config.factor;
  if (waves > config.high_freq_factor)
    return frequency;
  const double smooth =
      (waves - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return (1.0 - smooth) * frequency / config.factor + smooth * frequency;
}

/// YaRN: the pair of dimensions that turns `rotations` times within the trained context.
double yarn_dimension(double rotations, const rope_config& config, double dim) {
  return dim * std::log(config.original_context / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(config.theta));
}

void apply_yarn(std::vector<double>& frequency, const rope_config& config) {
  const double dim = 2.0 * static_cast<double>(frequency.size());
  double low = yarn_dimension(config.beta_fast, config, dim);
  double high = yarn_dimension(config.beta_slow, config, dim);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high)
    high += 0.001; // as the reference implementation has it
  for (size_t i = 0; i < frequency.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequency[i] = frequency[i] / config.factor * ramp + frequency[i] * (1.0 - ramp);
  }
}

} // namespace

rope_table::rope_table(const rope_config& config, int64_t head_dim) {
  const auto dim = static_cast<int64_t>(static_cast<double>(head_dim) * config.partial_factor);
  std::vector<double> frequency(static_cast<size_t>(dim / 2));
  for (size_t i = 0; i < frequency.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(dim);
    frequency[i] = std::pow(config.theta, -exponent);
    if (!config.divisors.empty())
      frequency[i] /= static_cast<double>(config.divisors[i]);
  }
  switch (config.kind) {
  case rope_kind::plain:
    break;
  case rope_kind::linear:
    for (auto& f : frequency)
      f /= config.factor;
    break;
  case rope_kind::llama3:
    for (auto& f : frequency)
      f = llama3_frequency(f, config);
    break;
  case rope_kind::yarn:
    apply_yarn(frequency, config);
    attention_factor_ = static_cast<float>(config.attention_factor);
    break;
  }
  inv_freq_.assign(frequency.begin(), frequency.end());
}

void rope_table::fill(int64_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < inv_freq_.size(); ++i) {
    // The angle is rounded to float as models were trained with it; only then is double used.
    const float angle = static_cast<float>(position) * inv_freq_[i];
    cos[i] = static_cast<float>(std::cos(static_cast<double>(angle))) * attention_factor_;
    sin[i] = static_cast<float>(std::sin(static_cast<double>(angle))) * attention_factor_;
  }
}

} // namespace troupe::engine
