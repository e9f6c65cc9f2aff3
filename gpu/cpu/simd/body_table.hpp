#pragma once
#include "gpu/cpu/simd/body_attention.hpp"
#include "gpu/cpu/simd/body_blocks.hpp"
#include "gpu/cpu/simd/body_bytes.hpp"
#include "gpu/cpu/simd/body_linear.hpp"
#include "gpu/cpu/simd/body_panels.hpp"
#include "gpu/cpu/simd/body_rows.hpp"

namespace troupe::gpu::cpu {
namespace {

/// Products and sums in float.
template <element Kind>
struct float_scheme {
  using operand = vec;
  static constexpr int64_t step = lanes;
  static constexpr int64_t x_bytes = 4;
  static constexpr int64_t w_at(int64_t k) { return k * bytes_of<Kind>; }
  static vec load_x(const unsigned char* p) { return load_f32(p); }
  static vec load_x_part(const unsigned char* p, int64_t n) { return load_f32_part(p, n); }
  static vec load_w(const unsigned char* w, int64_t k) { return load<Kind>(w + w_at(k)); }
  static vec load_w_part(const unsigned char* w, int64_t k, int64_t n) {
    return load_part<Kind>(w + w_at(k), n);
  }
  static vec multiply_add(vec x, vec w, vec sum) { return fma(x, w, sum); }
};

/// The same with weights in blocks of f8_b128, each product of scale and value rounded once.
struct f8_scheme : float_scheme<element::f32> {
  static constexpr int64_t elements = 128, bytes = 132;
  static constexpr int64_t w_at(int64_t k) { return k / elements * bytes; }
  static vec load_w(const unsigned char* w, int64_t k) {
    const unsigned char* block = w + w_at(k);
    float scale;
    __builtin_memcpy(&scale, block, sizeof scale);
    return mul(splat(scale * f8_parts), load_f8_parts(block + 4 + k % elements));
  }
  // Whole vectors make a block.
  static vec load_w_part(const unsigned char*, int64_t, int64_t) { return zero(); }
};

constexpr kernel_table make_table() {
  return {
      {linear<float_scheme<element::f32>>, linear<float_scheme<element::f16>>,
       linear<float_scheme<element::bf16>>},
      linear<f8_scheme>,
      nullptr,
      {linear_panels<q8_0_panel>, linear_panels<q4_0_panel>, linear_panels<q4_1_panel>,
       linear_panels<q5_0_panel>, linear_panels<q5_1_panel>, linear_panels<q4_k_panel>,
       linear_panels<q5_k_panel>, linear_panels<q6_k_panel>, nullptr, nullptr},
      panel_call_rows_max,
      to_bytes,
      {expand_q8_0, expand_q4_0},
      extremes,
      levels,
      {attention<f32_cache>, attention<bf16_cache>, attention<i8_cache>},
      nullptr,
      nullptr,
      nullptr,
      {widen<element::f32>, widen<element::f16>, widen<element::bf16>},
      to_bf16,
      to_i8,
      sum_of_squares,
      scale_by,
      rotate,
      gated,
  };
}

} // namespace
} // namespace troupe::gpu::cpu
