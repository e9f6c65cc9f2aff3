#pragma once
#include "gpu/cpu/simd/body_panels.hpp"

/// bf16 weights in panels, over vec_avx512.hpp and AVX-512 BF16.
namespace troupe::gpu::cpu {
namespace {

/// Pairs of bf16 products, added in float by the hardware, one pair after another.
struct bf16_panel {
  static constexpr int64_t value_bytes = 1024; ///< of a block of 32
  static constexpr int64_t unit = 1;
  /// Up to six rows wait for memory: what helps is many streams of weights, more than that few
  /// loads for each product.
  static constexpr int rows_few = 3;
  static constexpr int vectors_few = 8;
  static constexpr int rows_some = 6;
  static constexpr int vectors_some = 4;
  /// From here on products take as long as memory does: tiles of few streams, which are asked for
  /// ahead.
  static constexpr int rows_many = 8;
  static constexpr int vectors_many = 2;
  static constexpr int64_t pass_blocks = 8;

  static constexpr bool unpacks = false;
  template <int Vectors>
  static constexpr bool fetches = Vectors <= vectors_many;

  template <bool Fetch, int Rows, int Vectors>
  [[gnu::always_inline]] static void add(const panel_job& job, const panel_walk& walk, int64_t row,
                                         const unsigned char* const* panels, const int*,
                                         vec (&sums)[Rows][Vectors]) {
    const unsigned char* x = static_cast<const unsigned char*>(job.x) + row * job.x_row_bytes;
    for (int64_t pair = walk.begin * 16; pair < walk.end * 16; ++pair) {
      if constexpr (Fetch)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          fetch_line(panels[v] + pair * 64 + walk.next_bytes);
      __m512bh four[Rows];
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        four[r] = reinterpret_cast<__m512bh>(splat_int(x + r * job.x_row_bytes + pair * 4));
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const auto weights = reinterpret_cast<__m512bh>(load_groups(panels[v] + pair * 64));
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r)
          sums[r][v] = _mm512_dpbf16_ps(sums[r][v], weights, four[r]);
      }
    }
  }
};

} // namespace
} // namespace troupe::gpu::cpu
