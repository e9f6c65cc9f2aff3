#pragma once
#include "gpu/cpu/simd/body_panels.hpp"

/// bf16 weights in panels, over vec_avx512.hpp and AVX-512 BF16.
namespace troupe::gpu::cpu {
namespace {

/// Pairs of bf16 products, added in float by the hardware, one pair after another.
struct bf16_panel {
  static constexpr int64_t value_bytes = 1024; ///< of a block of 32
  /// One row wants many streams of weights, several want few loads for each product.
  static constexpr int rows_few = 3;
  static constexpr int vectors_few = 8;
  /// What one walk over the weights serves: a second one would start and stop the streams from
  /// memory every few KiB.
  static constexpr int rows_some = 8;
  static constexpr int vectors_some = 2;
  static constexpr int64_t ahead = 1024; ///< bytes
  static constexpr int rows_many = 6;
  static constexpr int vectors_many = 4;
  static constexpr int64_t pass_blocks = 6;

  template <int Rows, int Vectors>
  static void add(const panel_job& job, int64_t begin, int64_t end, int64_t row,
                  const unsigned char* const* panels, const int*, vec (&sums)[Rows][Vectors]) {
    const unsigned char* x = static_cast<const unsigned char*>(job.x) + row * job.x_row_bytes;
    for (int64_t pair = begin * 16; pair < end * 16; ++pair) {
      if constexpr (Rows > rows_many) // few streams: the processor alone looks ahead too little
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          __builtin_prefetch(panels[v] + pair * 64 + ahead, 0, 3);
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
