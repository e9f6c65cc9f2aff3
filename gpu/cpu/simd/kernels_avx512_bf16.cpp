#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/body_linear.hpp"

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
  static operand load_w(const unsigned char* p) { return load_x(p); }
  static operand load_w_part(const unsigned char* p, int64_t n) {
    const auto mask = static_cast<__mmask32>((uint64_t{1} << n) - 1);
    return reinterpret_cast<operand>(_mm512_maskz_loadu_epi16(mask, p));
  }
  static vec multiply_add(operand x, operand w, vec sum) { return _mm512_dpbf16_ps(sum, x, w); }
};

/// Blocks that are expanded on the way, to the very bf16 values that `expand` and a rounding give:
/// a row has the same bits whether its weights were expanded before or here.
struct block_scheme : dot_scheme {
  static __m512 scale_of(const unsigned char* block) {
    return _mm512_set1_ps(_mm512_cvtss_f32(load_f16_part(block, 1)));
  }
};

struct q8_0_scheme : block_scheme {
  static constexpr int64_t w_at(int64_t k) { return k / 32 * 34; }
  static operand load_w(const unsigned char* p) {
    const __m512 scale = scale_of(p);
    const auto half = [&](const unsigned char* bytes) {
      const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
      return _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(raw)));
    };
    return _mm512_cvtne2ps_pbh(half(p + 18), half(p + 2));
  }
  static operand load_w_part(const unsigned char* p, int64_t) { return load_w(p); }
};

struct q4_0_scheme : block_scheme {
  static constexpr int64_t w_at(int64_t k) { return k / 32 * 18; }
  static operand load_w(const unsigned char* p) {
    // All sixteen values that the block can have; its nibbles then pick from them.
    const __m512 steps = _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8);
    const __m256bh values = _mm512_cvtneps_pbh(_mm512_mul_ps(scale_of(p), steps));
    const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2));
    const __m128i mask = _mm_set1_epi8(15);
    const __m256i nibbles =
        _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(raw, 4), mask), _mm_and_si128(raw, mask));
    return reinterpret_cast<operand>(_mm512_permutexvar_epi16(
        _mm512_cvtepu8_epi16(nibbles), _mm512_castsi256_si512(reinterpret_cast<__m256i>(values))));
  }
  static operand load_w_part(const unsigned char* p, int64_t) { return load_w(p); }
};

template <class Scheme>
void expand(const unsigned char* from, unsigned char* out, int64_t n) {
  for (int64_t k = 0; k < n; k += Scheme::step)
    _mm512_storeu_si512(out + 2 * k,
                        reinterpret_cast<__m512i>(Scheme::load_w(from + Scheme::w_at(k))));
}

} // namespace

void avx512_bf16_expand_q8_0(const unsigned char* from, unsigned char* out, int64_t n) {
  expand<q8_0_scheme>(from, out, n);
}

void avx512_bf16_expand_q4_0(const unsigned char* from, unsigned char* out, int64_t n) {
  expand<q4_0_scheme>(from, out, n);
}

void avx512_bf16_linear_q8_0(const linear_job& job, const tile_range& range) {
  linear<q8_0_scheme>(job, range);
}

void avx512_bf16_linear_q4_0(const linear_job& job, const tile_range& range) {
  linear<q4_0_scheme>(job, range);
}

void avx512_bf16_linear(const linear_job& job, const tile_range& range) {
  linear<dot_scheme>(job, range);
}

} // namespace troupe::gpu::cpu
