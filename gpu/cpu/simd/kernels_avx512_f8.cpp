#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/body_panels.hpp"

/// 8-bit floats in panels, over AVX-512 BF16 and VBMI.
namespace troupe::gpu::cpu {
namespace {

constexpr int64_t f8_blocks = 4; ///< of 32 elements, with one scale
constexpr int64_t f8_lines = 32; ///< of 64 bytes, four elements of every row

/// The bytes of a bf16 whose f8_e4m3 is `code`, without the sign; exact. Subnormals have bits of
/// their own, as the products below take those of bf16 for zeros.
struct code_bytes {
  alignas(64) unsigned char high[128];
  alignas(64) unsigned char low[128];
};
constexpr code_bytes make_code_bytes() {
  code_bytes out{};
  for (int code = 1; code < 128; ++code) {
    int exponent = code / 8 + 120, fraction = code % 8;
    if (code < 8) { // fraction * 2^-9: the highest bit that is set becomes the implied one
      for (exponent = 121; fraction < 8; fraction *= 2)
        --exponent;
      fraction -= 8;
    }
    out.high[code] = static_cast<unsigned char>(exponent >> 1);
    out.low[code] = static_cast<unsigned char>((exponent & 1) << 7 | fraction << 4);
  }
  return out;
}
constexpr code_bytes codes = make_code_bytes();

/// Four elements of every row as two pairs each.
struct two_pairs {
  __m512bh first;
  __m512bh second;
};
[[gnu::always_inline]] inline two_pairs widen_f8(const void* line) {
  constexpr int a_or_b_and_c = 0xf8, a_in_c_else_b = 0xe4;
  const __m512i bytes = load_groups(line);
  const __m512i magnitudes = // the look-up ignores the sign
      _mm512_permutex2var_epi8(load_groups(codes.high), bytes, load_groups(codes.high + 64));
  const __m512i low =
      _mm512_permutex2var_epi8(load_groups(codes.low), bytes, load_groups(codes.low + 64));
  const __m512i high = _mm512_ternarylogic_epi32(
      magnitudes, bytes, _mm512_set1_epi8(static_cast<char>(0x80)), a_or_b_and_c);
  const __m512i low_bytes = _mm512_set1_epi16(0x00ff);
  const __m512i first =
      _mm512_ternarylogic_epi32(low, _mm512_slli_epi16(high, 8), low_bytes, a_in_c_else_b);
  const __m512i second =
      _mm512_ternarylogic_epi32(_mm512_srli_epi16(low, 8), high, low_bytes, a_in_c_else_b);
  return {reinterpret_cast<__m512bh>(first), reinterpret_cast<__m512bh>(second)};
}

/// Adds the 128 elements of a block to sums that begin at zero, then those times the scale: values
/// times bf16 activations in pairs, added in float by the hardware, one pair after another.
struct f8_tiles {
  static constexpr int rows_few = 2;
  static constexpr int vectors_few = 8;
  static constexpr int rows_some = 6;
  static constexpr int vectors_some = 4;
  static constexpr int rows_many = 8;
  static constexpr int vectors_many = 2;
  static constexpr int64_t unit = f8_blocks;
  static constexpr int64_t x_bytes = 64;
  template <int Vectors>
  static constexpr bool fetches = true;

  /// `lines(v, line)` gives the pairs of column vector v, `scale(v)` its scales.
  template <int Rows, int Vectors, class Lines, class Scale>
  [[gnu::always_inline]] static void add_block(const unsigned char* x, int64_t x_row_bytes,
                                               const Lines& lines, const Scale& scale,
                                               vec (&sums)[Rows][Vectors]) {
    vec dots[Rows][Vectors];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        dots[r][v] = zero();
    for (int64_t line = 0; line < f8_lines; ++line) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const two_pairs weights = lines(v, line);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          const unsigned char* four = x + r * x_row_bytes + line * 8;
          dots[r][v] = _mm512_dpbf16_ps(dots[r][v], weights.first,
                                        reinterpret_cast<__m512bh>(splat_int(four)));
          dots[r][v] = _mm512_dpbf16_ps(dots[r][v], weights.second,
                                        reinterpret_cast<__m512bh>(splat_int(four + 4)));
        }
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      const vec scales = scale(v);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        sums[r][v] = fma(dots[r][v], scales, sums[r][v]);
    }
  }
};

/// Blocks that were widened for many rows: a line of scales, then the lines of pairs.
struct widened_f8_panel : f8_tiles {
  static constexpr int64_t block_bytes = 64 + 2 * f8_lines * 64;
  static constexpr int64_t value_bytes = block_bytes / f8_blocks;
  static constexpr int64_t pass_blocks = 16;
  static constexpr bool unpacks = false;

  template <bool, int Rows, int Vectors>
  [[gnu::always_inline]] static void add(const panel_job& job, const panel_walk& walk, int64_t row,
                                         const unsigned char* const* panels, const int*,
                                         vec (&sums)[Rows][Vectors]) {
    const auto* x = static_cast<const unsigned char*>(job.x) + row * job.x_row_bytes;
    for (int64_t block = walk.begin; block < walk.end; block += unit) {
      const int64_t at = block * value_bytes;
      add_block(
          x + block * x_bytes, job.x_row_bytes,
          [&](int v, int64_t line) __attribute__((always_inline)) {
            const unsigned char* pairs = panels[v] + at + 64 + line * 128;
            return two_pairs{reinterpret_cast<__m512bh>(load_groups(pairs)),
                             reinterpret_cast<__m512bh>(load_groups(pairs + 64))};
          },
          [&](int v) { return load_f32(panels[v] + at); }, sums);
    }
  }
};

struct f8_panel : f8_tiles {
  static constexpr int64_t value_bytes = 512; ///< of 32 elements
  static constexpr int64_t pass_blocks = 16;
  static constexpr bool unpacks = true;
  static constexpr int64_t unpack_tiles = 2;
  using unpacked = widened_f8_panel;

  static int64_t heads_bytes(const panel_job& job) { return job.blocks / unit * 64; }

  static void unpack(const panel_job& job, const panel_pass& pass, const unsigned char* panel,
                     unsigned char* out) {
    for (int64_t block = pass.begin; block < pass.end; block += unit) {
      const unsigned char* at = panel + heads_bytes(job) + block * value_bytes;
      _mm512_storeu_ps(out, load_f32(panel + block / unit * 64));
      out += 64;
      for (int64_t line = 0; line < f8_lines; ++line, out += 128) {
        fetch_line(at + line * 64 + bytes_ahead);
        const two_pairs pairs = widen_f8(at + line * 64);
        _mm512_storeu_si512(out, reinterpret_cast<__m512i>(pairs.first));
        _mm512_storeu_si512(out + 64, reinterpret_cast<__m512i>(pairs.second));
      }
    }
  }

  template <bool Fetch, int Rows, int Vectors>
  [[gnu::always_inline]] static void add(const panel_job& job, const panel_walk& walk, int64_t row,
                                         const unsigned char* const* panels, const int*,
                                         vec (&sums)[Rows][Vectors]) {
    const auto* x = static_cast<const unsigned char*>(job.x) + row * job.x_row_bytes;
    const int64_t heads = heads_bytes(job);
    for (int64_t block = walk.begin; block < walk.end; block += unit) {
      const int64_t at = heads + block * value_bytes;
      add_block(
          x + block * x_bytes, job.x_row_bytes,
          [&](int v, int64_t line) __attribute__((always_inline)) {
            const unsigned char* here = panels[v] + at + line * 64;
            if constexpr (Fetch)
              fetch_line(here + walk.next_bytes);
            return widen_f8(here);
          },
          [&](int v) { return load_f32(panels[v] + block / unit * 64); }, sums);
    }
  }
};

} // namespace

void avx512_f8_linear_panels(const panel_job& job, const tile_range& range) {
  linear_panels<f8_panel>(job, range);
}

} // namespace troupe::gpu::cpu
