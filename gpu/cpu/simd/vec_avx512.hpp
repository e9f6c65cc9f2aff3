#pragma once
#include <immintrin.h>
#include <stdint.h>

/// The primitives of vec_portable.hpp over AVX-512 F, BW, VL and DQ.
namespace troupe::gpu::cpu {
namespace {

using vec = __m512;
constexpr int lanes = 16;
/// For 32 registers: 6 x 4 sums, 6 inputs and a weight.
constexpr int tile_rows_max = 6;
/// Few rows: more weight rows side by side, which is what fills the memory bus.
constexpr int tile_cols_wide = 8;
constexpr int rows_wide_max = 2;
constexpr int query_tile = 4;
constexpr int value_tile = 4;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/// Tiles are unrolled, and checked accesses are many times the code: small ones do, to compile.
constexpr int panel_rows_many = 2;
constexpr int panel_rows_few = 1;
#else
/// 8 x 2 sums of bytes; those of floats, which a block needs once, lie in the L1 cache.
constexpr int panel_rows_many = 8;
constexpr int panel_rows_few = 3;
#endif
constexpr int panel_vectors_many = 2;
constexpr int panel_vectors_few = 4;

inline vec zero() { return _mm512_setzero_ps(); }
inline vec splat(float x) { return _mm512_set1_ps(x); }
inline vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
inline vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
inline vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
inline vec div(vec a, vec b) { return _mm512_div_ps(a, b); }
inline vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
inline vec min(vec a, vec b) { return _mm512_min_ps(a, b); }
inline vec max(vec a, vec b) { return _mm512_max_ps(a, b); }
inline vec nearest(vec a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline vec if_less(vec a, vec b, vec yes, vec no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
inline vec power_of_two(vec n) {
  const __m512i whole = _mm512_cvtps_epi32(n);
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(127)), 23));
}

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

inline vec load_f32(const void* p) { return _mm512_loadu_ps(p); }
inline void store_f32(float* p, vec a) { _mm512_storeu_ps(p, a); }
inline vec load_f32_part(const void* p, int64_t n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
inline void store_f32_part(float* p, vec a, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), a);
}

inline vec widen_bf16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline vec widen_f16(__m256i bits) { return _mm512_cvtph_ps(bits); }
inline __m256i load_16(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m256i load_16_part(const void* p, int64_t n) {
  return _mm256_maskz_loadu_epi16(first_lanes(n), p);
}
inline vec load_bf16(const void* p) { return widen_bf16(load_16(p)); }
inline vec load_f16(const void* p) { return widen_f16(load_16(p)); }
inline vec load_bf16_part(const void* p, int64_t n) { return widen_bf16(load_16_part(p, n)); }
inline vec load_f16_part(const void* p, int64_t n) { return widen_f16(load_16_part(p, n)); }
inline vec widen_i8(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)); }
inline vec load_i8(const void* p) {
  return widen_i8(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
constexpr float f8_parts = 256;
inline vec load_f8_parts(const void* p) {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
  const __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7);
  return widen_f16(_mm256_andnot_si256(_mm256_set1_epi16(0x4000), wide));
}
inline vec load_i8_part(const void* p, int64_t n) {
  return widen_i8(_mm_maskz_loadu_epi8(first_lanes(n), p));
}

inline __m256i narrow_bf16(vec a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
  const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(nan, rounded, quiet));
}
inline void store_bf16(void* p, vec a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), narrow_bf16(a));
}
inline void store_bf16_part(void* p, vec a, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_bf16(a));
}

/// Two quarters of each of a and b, as one vector.
template <int Select>
inline vec quarters(vec a, vec b) {
  return _mm512_shuffle_f32x4(a, b, Select);
}
template <int Select>
inline vec permuted(vec a) {
  return _mm512_permute_ps(a, Select);
}

/// Adds lanes i and i + 8, then i and i + 4, i and i + 2, and the last two.
inline void sum_lanes(vec a, vec b, vec c, vec d, float* out) {
  const vec ab = _mm512_add_ps(quarters<0x44>(a, b), quarters<0xee>(a, b));
  const vec cd = _mm512_add_ps(quarters<0x44>(c, d), quarters<0xee>(c, d));
  const vec fours = _mm512_add_ps(quarters<0x88>(ab, cd), quarters<0xdd>(ab, cd));
  const vec twos = _mm512_add_ps(fours, permuted<0x4e>(fours));
  const vec sums = _mm512_add_ps(twos, permuted<0xb1>(twos));
  const __m512i pick = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(pick, sums)));
}
inline float max_lane(vec a) {
  const vec half = max(a, quarters<0x4e>(a, a));
  const vec fours = max(half, quarters<0xb1>(half, half));
  const vec twos = max(fours, permuted<0x4e>(fours));
  return _mm_cvtss_f32(_mm512_castps512_ps128(max(twos, permuted<0xb1>(twos))));
}

using ivec = __m512i;
inline ivec load_groups(const void* p) { return _mm512_loadu_si512(p); }
inline ivec splat_int(const void* p) {
  int bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return _mm512_set1_epi32(bits);
}
inline vec to_float(ivec a) { return _mm512_cvtepi32_ps(a); }
inline ivec to_int(vec a) { return _mm512_cvtps_epi32(a); }
inline ivec low_nibbles(ivec a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
inline ivec high_nibbles(ivec a) { return low_nibbles(_mm512_srli_epi16(a, 4)); }
inline ivec no_groups() { return _mm512_setzero_si512(); }
inline ivec load_bytes(const void* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
template <int Count>
inline ivec shift_left(ivec a) {
  return _mm512_slli_epi32(a, Count);
}
template <int Count>
inline ivec shift_right(ivec a) {
  return _mm512_srli_epi32(a, Count);
}
inline ivec shift_right_by(ivec a, int count) {
  return _mm512_srl_epi32(a, _mm_cvtsi32_si128(count));
}
template <int Mask>
inline ivec or_masked(ivec a, ivec b) {
  constexpr int a_or_b_and_c = 0xf8;
  return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8(Mask), a_or_b_and_c);
}
inline void store_bytes(int8_t* p, ivec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a));
}
/// sums + what each lane's four unsigned bytes of `w` times its signed ones of `x` give; exact.
/// `Small`: no byte of `w` is above 63.
template <bool Small>
inline ivec dot_groups(ivec sums, ivec w, ivec x) {
#if defined(__AVX512VNNI__)
  return _mm512_dpbusd_epi32(sums, w, x);
#else
  if constexpr (Small) { // two products fit 16 bits
    const ivec pairs = _mm512_maddubs_epi16(w, x);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  const ivec even = _mm512_madd_epi16(_mm512_and_si512(w, _mm512_set1_epi16(255)),
                                      _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
  const ivec odd = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), _mm512_srai_epi16(x, 8));
  return _mm512_add_epi32(sums, _mm512_add_epi32(even, odd));
#endif
}

} // namespace
} // namespace troupe::gpu::cpu
