#pragma once
#include "gpu/cpu/simd/body_panels.hpp"

/// bf16 weights in panels, over vec_avx512.hpp and AVX-512 BF16.
namespace troupe::gpu::cpu {
namespace {

/// Pairs of bf16 products, added in float by the hardware, one pair after another.
struct bf16_panel {
  static constexpr int64_t value_bytes = 1024; ///< of a block of 32
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

  template <int Rows, int Vectors>
  static void add(const panel_job& job, const panel_pass& pass, int64_t row,
                  const unsigned char* const* panels, const int*, vec (&sums)[Rows][Vectors]) {
    const unsigned char* x = static_cast<const unsigned char*>(job.x) + row * job.x_row_bytes;
    if (Vectors > vectors_many || !pass.fetch)
      return walk<false>(x, job.x_row_bytes, panels, pass.begin, pass.end, 0, sums);
    const int64_t last = job.blocks - ahead / value_bytes;
    const int64_t turn = last < pass.begin ? pass.begin : last < pass.end ? last : pass.end;
    walk<true>(x, job.x_row_bytes, panels, pass.begin, turn, ahead, sums);
    // Behind the end of a panel that of the next tile begins.
    walk<true>(x, job.x_row_bytes, panels, turn, pass.end, ahead + (Vectors - 1) * job.panel_bytes,
               sums);
  }

private:
  /// Bytes. More than a page: within one the processor looks ahead by itself, and asking as well
  /// makes it slower.
  static constexpr int64_t ahead = 8192;

  /// `Fetch` asks for what lies `next_bytes` on, into the L2 cache: the L1 cache has too few misses
  /// in flight for the bandwidth of memory.
  template <bool Fetch, int Rows, int Vectors>
  [[gnu::always_inline]] static void walk(const unsigned char* x, int64_t x_row_bytes,
                                          const unsigned char* const* panels, int64_t begin,
                                          int64_t end, [[maybe_unused]] int64_t next_bytes,
                                          vec (&sums)[Rows][Vectors]) {
    for (int64_t pair = begin * 16; pair < end * 16; ++pair) {
      if constexpr (Fetch)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          __builtin_prefetch(panels[v] + pair * 64 + next_bytes, 0, 2);
      __m512bh four[Rows];
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        four[r] = reinterpret_cast<__m512bh>(splat_int(x + r * x_row_bytes + pair * 4));
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
