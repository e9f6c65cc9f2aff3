#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/// The primitives of vec_portable.hpp over AVX2, FMA and F16C.
namespace troupe::gpu::cpu {
namespace {

using vec = __m256;
constexpr int lanes = 8;
constexpr int tile_rows_max = 3;
constexpr int tile_cols_wide = 8;
constexpr int rows_wide_max = 1;
constexpr int query_tile = 2;
constexpr int value_tile = 4;
constexpr int panel_rows_many = 2;
constexpr int panel_vectors_many = 2;
constexpr int panel_rows_few = 1;
constexpr int panel_vectors_few = 4;

inline vec zero() { return _mm256_setzero_ps(); }
inline vec splat(float x) { return _mm256_set1_ps(x); }
inline vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
inline vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
inline vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
inline vec div(vec a, vec b) { return _mm256_div_ps(a, b); }
inline vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
inline vec min(vec a, vec b) { return _mm256_min_ps(a, b); }
inline vec max(vec a, vec b) { return _mm256_max_ps(a, b); }
inline vec nearest(vec a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline vec if_less(vec a, vec b, vec yes, vec no) {
  return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline vec power_of_two(vec n) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}

inline vec load_f32(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
inline void store_f32(float* p, vec a) { _mm256_storeu_ps(p, a); }
inline vec load_f32_part(const void* p, int64_t n) {
  float part[lanes] = {};
  memcpy(part, p, static_cast<size_t>(n) * 4);
  return _mm256_loadu_ps(part);
}
inline void store_f32_part(float* p, vec a, int64_t n) {
  float part[lanes];
  _mm256_storeu_ps(part, a);
  memcpy(p, part, static_cast<size_t>(n) * 4);
}

inline vec widen_bf16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline __m128i load_16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m128i load_16_part(const void* p, int64_t n) {
  uint16_t part[lanes] = {};
  memcpy(part, p, static_cast<size_t>(n) * 2);
  return load_16(part);
}
inline vec load_bf16(const void* p) { return widen_bf16(load_16(p)); }
inline vec load_f16(const void* p) { return _mm256_cvtph_ps(load_16(p)); }
inline vec load_bf16_part(const void* p, int64_t n) { return widen_bf16(load_16_part(p, n)); }
inline vec load_f16_part(const void* p, int64_t n) { return _mm256_cvtph_ps(load_16_part(p, n)); }
inline vec load_i8(const void* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
}
constexpr float f8_parts = 256;
inline vec load_f8_parts(const void* p) {
  const __m128i bytes = _mm_loadl_epi64(static_cast<const __m128i*>(p));
  const __m128i wide = _mm_slli_epi16(_mm_cvtepi8_epi16(bytes), 7);
  return _mm256_cvtph_ps(_mm_andnot_si128(_mm_set1_epi16(0x4000), wide));
}
inline vec load_i8_part(const void* p, int64_t n) {
  unsigned char part[lanes] = {};
  memcpy(part, p, static_cast<size_t>(n));
  return load_i8(part);
}

inline __m128i narrow_bf16(vec a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i narrow = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(narrow), _mm256_extracti128_si256(narrow, 1));
}
inline void store_bf16(void* p, vec a) {
  _mm_storeu_si128(static_cast<__m128i*>(p), narrow_bf16(a));
}
inline void store_bf16_part(void* p, vec a, int64_t n) {
  uint16_t part[lanes];
  store_bf16(part, a);
  memcpy(p, part, static_cast<size_t>(n) * 2);
}

/// Adds lanes i and i + 4, then i and i + 2, then the last two.
inline void sum_lanes(vec a, vec b, vec c, vec d, float* out) {
  const vec ab =
      _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  const vec cd =
      _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
  const vec half = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  const vec sums =
      _mm256_add_ps(_mm256_shuffle_ps(half, half, 0x88), _mm256_shuffle_ps(half, half, 0xdd));
  _mm_storeu_ps(out, _mm_unpacklo_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}
inline float max_lane(vec a) {
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 pairs = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
}

using ivec = __m256i;
inline ivec load_groups(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline ivec splat_int(const void* p) {
  int bits;
  memcpy(&bits, p, sizeof bits);
  return _mm256_set1_epi32(bits);
}
inline vec to_float(ivec a) { return _mm256_cvtepi32_ps(a); }
inline ivec to_int(vec a) { return _mm256_cvtps_epi32(a); }
inline ivec low_nibbles(ivec a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
inline ivec high_nibbles(ivec a) { return low_nibbles(_mm256_srli_epi16(a, 4)); }
inline ivec no_groups() { return _mm256_setzero_si256(); }
inline ivec load_bytes(const void* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
template <int Count>
inline ivec shift_left(ivec a) {
  return _mm256_slli_epi32(a, Count);
}
template <int Count>
inline ivec shift_right(ivec a) {
  return _mm256_srli_epi32(a, Count);
}
inline ivec shift_right_by(ivec a, int count) {
  return _mm256_srl_epi32(a, _mm_cvtsi32_si128(count));
}
template <int Mask>
inline ivec or_masked(ivec a, ivec b) {
  return _mm256_or_si256(a, _mm256_and_si256(b, _mm256_set1_epi8(Mask)));
}
inline void store_bytes(int8_t* p, ivec a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  _mm_storeu_si64(p, _mm_packs_epi16(words, words));
}
template <bool Small>
inline ivec dot_groups(ivec sums, ivec w, ivec x) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(sums, w, x);
#else
  if constexpr (Small) {
    const ivec pairs = _mm256_maddubs_epi16(w, x);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  const ivec even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)),
                                      _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
  const ivec odd = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8));
  return _mm256_add_epi32(sums, _mm256_add_epi32(even, odd));
#endif
}

} // namespace
} // namespace troupe::gpu::cpu
