#pragma once
#include <smmintrin.h>
#include <stdint.h>
#include <string.h>

/// Vector primitives over SSE4.2 (x86-64-v2). Every simd/vec_*.hpp offers the same names; a
/// translation unit includes one of them and then the simd/body_*.hpp it needs. All of it is in an
/// unnamed namespace: code for different instruction sets must never be merged by the linker.
namespace troupe::gpu::cpu {
namespace {

using vec = __m128;
constexpr int lanes = 4;
/// Shapes of the register tiles, for 16 registers.
constexpr int tile_rows_max = 2;
constexpr int tile_cols_wide = 8;
constexpr int rows_wide_max = 1;
constexpr int query_tile = 2;
constexpr int value_tile = 4;
/// Shapes of the tiles of byte products: for many rows, and for few, where more columns side by
/// side read memory faster. A tile's vectors cover whole panels.
constexpr int panel_rows_many = 1;
constexpr int panel_vectors_many = 4;
constexpr int panel_rows_few = 1;
constexpr int panel_vectors_few = 4;

inline vec zero() { return _mm_setzero_ps(); }
inline vec splat(float x) { return _mm_set1_ps(x); }
inline vec add(vec a, vec b) { return _mm_add_ps(a, b); }
inline vec sub(vec a, vec b) { return _mm_sub_ps(a, b); }
inline vec mul(vec a, vec b) { return _mm_mul_ps(a, b); }
inline vec div(vec a, vec b) { return _mm_div_ps(a, b); }
/// a * b + c
inline vec fma(vec a, vec b, vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
/// The second operand where either is NaN.
inline vec min(vec a, vec b) { return _mm_min_ps(a, b); }
inline vec max(vec a, vec b) { return _mm_max_ps(a, b); }
inline vec nearest(vec a) { return _mm_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/// a < b ? yes : no
inline vec if_less(vec a, vec b, vec yes, vec no) {
  return _mm_blendv_ps(no, yes, _mm_cmplt_ps(a, b));
}
/// 2^n for integral n in -126 .. 127
inline vec power_of_two(vec n) {
  return _mm_castsi128_ps(
      _mm_slli_epi32(_mm_add_epi32(_mm_cvtps_epi32(n), _mm_set1_epi32(127)), 23));
}

inline vec load_f32(const void* p) { return _mm_loadu_ps(static_cast<const float*>(p)); }
inline void store_f32(float* p, vec a) { _mm_storeu_ps(p, a); }
inline vec load_f32_part(const void* p, int64_t n) {
  float part[lanes] = {};
  memcpy(part, p, static_cast<size_t>(n) * 4);
  return _mm_loadu_ps(part);
}
inline void store_f32_part(float* p, vec a, int64_t n) {
  float part[lanes];
  _mm_storeu_ps(part, a);
  memcpy(p, part, static_cast<size_t>(n) * 4);
}

inline vec widen_bf16(__m128i bits) {
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(bits), 16));
}
inline vec widen_f16(__m128i bits) {
  const __m128i wide = _mm_cvtepu16_epi32(bits);
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(wide, _mm_set1_epi32(0x8000)), 16);
  const __m128i magnitude = _mm_and_si128(wide, _mm_set1_epi32(0x7fff));
  // Moving the bits leaves the exponent 112 too small, for subnormals too.
  const vec scaled = _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(magnitude, 13)),
                                _mm_castsi128_ps(_mm_set1_epi32((127 + 112) << 23)));
  const __m128i special =
      _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff)), _mm_set1_epi32(0x7f800000));
  return _mm_castsi128_ps(_mm_or_si128(_mm_or_si128(_mm_castps_si128(scaled), special), sign));
}
inline __m128i load_16_part(const void* p, int64_t n) {
  uint16_t part[8] = {};
  memcpy(part, p, static_cast<size_t>(n) * 2);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(part));
}
inline vec load_bf16(const void* p) { return widen_bf16(_mm_loadu_si64(p)); }
inline vec load_f16(const void* p) { return widen_f16(_mm_loadu_si64(p)); }
inline vec load_bf16_part(const void* p, int64_t n) { return widen_bf16(load_16_part(p, n)); }
inline vec load_f16_part(const void* p, int64_t n) { return widen_f16(load_16_part(p, n)); }
inline vec load_i8(const void* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
}
/// Eight-bit floats, which are f16 whose exponent is eight too small once their bits are moved:
/// values / f8_parts.
constexpr float f8_parts = 256;
inline vec load_f8_parts(const void* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  const __m128i wide = _mm_slli_epi16(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)), 7);
  return widen_f16(_mm_andnot_si128(_mm_set1_epi16(0x4000), wide)); // one sign too many
}
inline vec load_i8_part(const void* p, int64_t n) {
  unsigned char part[lanes] = {};
  memcpy(part, p, static_cast<size_t>(n));
  return load_i8(part);
}

/// Rounds to nearest even; a NaN stays a quiet NaN.
inline void store_bf16(void* p, vec a) {
  const __m128i bits = _mm_castps_si128(a);
  const __m128i odd = _mm_and_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(1));
  const __m128i rounded =
      _mm_srli_epi32(_mm_add_epi32(bits, _mm_add_epi32(odd, _mm_set1_epi32(0x7fff))), 16);
  const __m128i quiet = _mm_or_si128(_mm_srli_epi32(bits, 16), _mm_set1_epi32(0x40));
  const __m128i nan = _mm_castps_si128(_mm_cmpunord_ps(a, a));
  const __m128i narrow = _mm_blendv_epi8(rounded, quiet, nan);
  _mm_storeu_si64(p, _mm_packus_epi32(narrow, narrow));
}
inline void store_bf16_part(void* p, vec a, int64_t n) {
  uint16_t part[8];
  store_bf16(part, a);
  memcpy(p, part, static_cast<size_t>(n) * 2);
}

/// The sums of the lanes of a, b, c, d. Always adds lanes i and i + 2 first, then the rest, so that
/// a sum has the same bits in whatever company it is formed.
inline void sum_lanes(vec a, vec b, vec c, vec d, float* out) {
  const vec ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
  const vec cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
  _mm_storeu_ps(out, _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd)));
}
inline float max_lane(vec a) {
  const vec pairs = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(pairs, _mm_shuffle_ps(pairs, pairs, 1)));
}

/// Whole numbers: a group of four bytes or one sum in each lane.
using ivec = __m128i;
inline ivec load_groups(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
/// The four bytes at `p` in every lane.
inline ivec splat_int(const void* p) {
  int bits;
  memcpy(&bits, p, sizeof bits);
  return _mm_set1_epi32(bits);
}
inline vec to_float(ivec a) { return _mm_cvtepi32_ps(a); }
inline ivec to_int(vec a) { return _mm_cvtps_epi32(a); }
inline ivec low_nibbles(ivec a) { return _mm_and_si128(a, _mm_set1_epi8(15)); }
inline ivec high_nibbles(ivec a) { return low_nibbles(_mm_srli_epi16(a, 4)); }
inline ivec no_groups() { return _mm_setzero_si128(); }
/// A byte in each lane, without sign.
inline ivec load_bytes(const void* p) {
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
}
/// The bits of each lane moved by `Count`, or by `count`.
template <int Count>
inline ivec shift_left(ivec a) {
  return _mm_slli_epi32(a, Count);
}
template <int Count>
inline ivec shift_right(ivec a) {
  return _mm_srli_epi32(a, Count);
}
inline ivec shift_right_by(ivec a, int count) { return _mm_srl_epi32(a, _mm_cvtsi32_si128(count)); }
/// `a` with those bits of `b` that `Mask` names in every byte.
template <int Mask>
inline ivec or_masked(ivec a, ivec b) {
  return _mm_or_si128(a, _mm_and_si128(b, _mm_set1_epi8(Mask)));
}
/// One byte of each lane; lanes are within -128 .. 127.
inline void store_bytes(int8_t* p, ivec a) {
  const __m128i words = _mm_packs_epi32(a, a);
  _mm_storeu_si32(p, _mm_packs_epi16(words, words));
}
/// sums + what each lane's four unsigned bytes of `w` times its signed ones of `x` give; exact.
/// `Small`: no byte of `w` is above 63, so that two products fit 16 bits.
template <bool Small>
inline ivec dot_groups(ivec sums, ivec w, ivec x) {
  if constexpr (Small) {
    const ivec pairs = _mm_maddubs_epi16(w, x);
    return _mm_add_epi32(sums, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
  }
  const ivec even = _mm_madd_epi16(_mm_and_si128(w, _mm_set1_epi16(255)),
                                   _mm_srai_epi16(_mm_slli_epi16(x, 8), 8));
  const ivec odd = _mm_madd_epi16(_mm_srli_epi16(w, 8), _mm_srai_epi16(x, 8));
  return _mm_add_epi32(sums, _mm_add_epi32(even, odd));
}

} // namespace
} // namespace troupe::gpu::cpu
