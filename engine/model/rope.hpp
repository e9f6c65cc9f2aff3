#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// The angles of rotary position embedding for one model. Immutable.
class rope_table {
public:
  rope_table(const rope_config& config, int64_t head_dim);

  /// Dimensions of a head that are rotated.
  int64_t rotary_dim() const { return 2 * static_cast<int64_t>(inv_freq_.size()); }
  /// Radians per position of each pair of dimensions, scaling applied.
  std::span<const float> inv_freq() const { return inv_freq_; }
  /// What cos and sin are multiplied by.
  float attention_factor() const { return attention_factor_; }
  /// Writes rotary_dim() / 2 cosines and sines of one position.
  void fill(int64_t position, float* cos, float* sin) const;

private:
  std::vector<float> inv_freq_;
  float attention_factor_ = 1.0f;
};

} // namespace troupe::engine
