#pragma once
#include <cstdint>

/// What a model's configuration may ask for, whatever file it comes from: far beyond any real
/// model, and small enough that no product of three overflows.
namespace troupe::engine::limits {

inline constexpr int64_t width_max = int64_t{1} << 20;
inline constexpr int64_t vocab_max = int64_t{1} << 24;
inline constexpr int64_t layers_max = 4096;
inline constexpr int64_t heads_max = 4096;
inline constexpr int64_t head_dim_max = 4096;
inline constexpr int64_t context_max = int64_t{1} << 27;
inline constexpr double rope_theta_max = 1e12;
inline constexpr double rope_factor_max = 1e6;

} // namespace troupe::engine::limits
