#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/body_linear.hpp"
#include "gpu/cpu/simd/body_pair_attention.hpp"
#include "gpu/cpu/simd/body_pairs.hpp"

namespace troupe::gpu::cpu {
namespace {

/// Pairs of bf16 products, added in float by the hardware.
struct dot_scheme {
  using operand = __m512bh;
  static constexpr int64_t step = 32;
  static constexpr int64_t x_bytes = 2;
  static constexpr int64_t w_at(int64_t k) { return k * 2; }
  static operand load_x(const unsigned char* p) {
    return reinterpret_cast<operand>(_mm512_loadu_si512(p));
  }
  // Rows of x are padded with zeros.
  static operand load_x_part(const unsigned char* p, int64_t) { return load_x(p); }
  static operand load_w(const unsigned char* w, int64_t k) { return load_x(w + w_at(k)); }
  static operand load_w_part(const unsigned char* w, int64_t k, int64_t n) {
    const auto mask = static_cast<__mmask32>((uint64_t{1} << n) - 1);
    return reinterpret_cast<operand>(_mm512_maskz_loadu_epi16(mask, w + w_at(k)));
  }
  static vec multiply_add(operand x, operand w, vec sum) { return _mm512_dpbf16_ps(sum, x, w); }
};

} // namespace

void avx512_bf16_linear(const linear_job& job, const tile_range& range) {
  linear<dot_scheme>(job, range);
}

void avx512_bf16_linear_panels(const panel_job& job, const tile_range& range) {
  linear_panels<bf16_panel>(job, range);
}

void avx512_bf16_attention_pairs(const attention_job& job) { pair_attention(job); }

void avx512_bf16_write_key_pairs(const float* from, unsigned char* group, int64_t slot, int64_t n) {
  write_key_pairs(from, group, slot, n);
}

void avx512_bf16_write_value_pairs(const float* from, unsigned char* group, int64_t slot,
                                   int64_t n) {
  write_value_pairs(from, group, slot, n);
}

} // namespace troupe::gpu::cpu
