#pragma once
#include "gpu/cpu/simd/body_rows.hpp"

/// How keys and values are kept, over the primitives of the simd/vec_*.hpp that was included
/// before.
namespace troupe::gpu::cpu {
namespace {

template <element Kind>
struct plain_cache {
  static constexpr int64_t bytes = bytes_of<Kind>;
  static constexpr bool has_scales = false;
  static vec load(const unsigned char* p) { return cpu::load<Kind>(p); }
  static vec load_part(const unsigned char* p, int64_t n) { return cpu::load_part<Kind>(p, n); }
};
using f32_cache = plain_cache<element::f32>;
using bf16_cache = plain_cache<element::bf16>;

struct i8_cache {
  static constexpr int64_t bytes = 1;
  static constexpr bool has_scales = true;
  static vec load(const unsigned char* p) { return load_i8(p); }
  static vec load_part(const unsigned char* p, int64_t n) { return load_i8_part(p, n); }
};

/// The same float operations, in the same order for each element, as the reference's kv_write.
float to_i8(const float* from, unsigned char* out, int64_t n) {
  vec tops = zero(), poison = zero();
  for (int64_t i = 0; i < n; i += lanes) {
    const vec x = load_f32_part(from + i, n - i < lanes ? n - i : lanes);
    tops = max(tops, max(x, sub(zero(), x)));
    poison = add(poison, mul(x, zero())); // NaN where x is no finite number
  }
  float poisoned[4];
  sum_lanes(poison, zero(), zero(), zero(), poisoned);
  const float top = max_lane(tops);
  if (poisoned[0] != 0 || !(top >= 1e-30f)) { // so small that 127 / top may overflow
    for (int64_t i = 0; i < n; ++i)
      out[i] = 0;
    return poisoned[0];
  }
  const vec inverse = splat(127.0f / top);
  for (int64_t i = 0; i < n; i += lanes) {
    const int64_t m = n - i < lanes ? n - i : lanes;
    float whole[lanes];
    store_f32(whole, nearest(mul(load_f32_part(from + i, m), inverse)));
    for (int64_t j = 0; j < m; ++j)
      out[i + j] = static_cast<unsigned char>(static_cast<signed char>(whole[j]));
  }
  return top / 127.0f;
}

} // namespace
} // namespace troupe::gpu::cpu
