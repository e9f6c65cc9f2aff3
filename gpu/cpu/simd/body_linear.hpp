#pragma once
#include "gpu/cpu/kernels.hpp"

/// Matrix products over the primitives of the simd/vec_*.hpp that was included before.
///
/// Every output element has one vector of partial sums that walks k in steps of one vector, and one
/// fixed tree that adds its lanes. Tiles decide only which elements are computed side by side, and
/// blocks of k put the vector aside in memory unrounded: the bits of a row are the same whichever
/// shape computed it.
namespace troupe::gpu::cpu {
namespace {

/// k is cut into blocks of this many elements where rows are many, so that a tile's weights stay in
/// the L1 cache while all rows pass over them.
constexpr int64_t k_block = 1024;

/// `Fetch` asks for the weights of the next tile of columns while this one is computed: the
/// hardware prefetcher starts anew with every row and would leave the multipliers waiting.
template <class Scheme, bool Fetch, int Rows, int Cols>
inline void accumulate(const unsigned char* x, int64_t x_row_bytes, const unsigned char* const* w,
                       int64_t k_begin, int64_t k_end, [[maybe_unused]] int64_t next_bytes,
                       vec (&sums)[Rows][Cols]) {
  int64_t k = k_begin;
  for (; k + Scheme::step <= k_end; k += Scheme::step) {
    typename Scheme::operand inputs[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
      inputs[r] = Scheme::load_x(x + r * x_row_bytes + k * Scheme::x_bytes);
#pragma GCC unroll 8
    for (int c = 0; c < Cols; ++c) {
      const auto weights = Scheme::load_w(w[c], k);
      if constexpr (Fetch)
        __builtin_prefetch(w[c] + Scheme::w_at(k) + next_bytes, 0, 2);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        sums[r][c] = Scheme::multiply_add(inputs[r], weights, sums[r][c]);
    }
  }
  if (k == k_end)
    return;
#pragma GCC unroll 8
  for (int c = 0; c < Cols; ++c) {
    const auto weights = Scheme::load_w_part(w[c], k, k_end - k);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto input = Scheme::load_x_part(x + r * x_row_bytes + k * Scheme::x_bytes, k_end - k);
      sums[r][c] = Scheme::multiply_add(input, weights, sums[r][c]);
    }
  }
}

/// Adds up the lanes of one row's sums and stores the first `cols` of them.
template <int Cols>
inline void finish_row(const linear_job& job, const vec (&sums)[Cols], int64_t row, int64_t col,
                       int64_t cols) {
  float values[Cols];
#pragma GCC unroll 8
  for (int c = 0; c < Cols; c += 4)
    sum_lanes(sums[c], sums[c + 1], sums[c + 2], sums[c + 3], values + c);
  float* out = job.out + row * job.out_stride + col;
  for (int64_t c = 0; c < cols && c < Cols; ++c) {
    float value = values[c];
    if (job.bias != nullptr)
      value += job.bias[col + c];
    out[c] = job.accumulate ? out[c] + value : value;
  }
}

struct block {
  int64_t k_begin;
  int64_t k_end;
  bool first;
  bool last;
  bool fetch;
};

/// One register tile over one block of k. `aside` holds its sums between blocks.
template <class Scheme, int Rows, int Cols>
inline void run_tile(const linear_job& job, const block& part, int64_t row, int64_t col,
                     int64_t cols, float* aside) {
  const int64_t x_row_bytes = job.x_stride * Scheme::x_bytes;
  const unsigned char* w[Cols];
#pragma GCC unroll 8
  for (int c = 0; c < Cols; ++c) // columns past the end repeat the last one and are not stored
    w[c] = job.w + (col + (c < cols ? c : cols - 1)) * Scheme::w_at(job.k);
  vec sums[Rows][Cols];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < Cols; ++c)
      sums[r][c] = part.first ? zero() : load_f32(aside + (r * Cols + c) * lanes);
  const auto* x = static_cast<const unsigned char*>(job.x) + row * x_row_bytes;
  const int64_t next_bytes = Cols * Scheme::w_at(job.k);
  if (part.fetch)
    accumulate<Scheme, true>(x, x_row_bytes, w, part.k_begin, part.k_end, next_bytes, sums);
  else
    accumulate<Scheme, false>(x, x_row_bytes, w, part.k_begin, part.k_end, 0, sums);
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    if (part.last) {
      finish_row(job, sums[r], row + r, col, cols);
      continue;
    }
#pragma GCC unroll 8
    for (int c = 0; c < Cols; ++c)
      store_f32(aside + (r * Cols + c) * lanes, sums[r][c]);
  }
}

/// Calls the tile for `rows` rows, 1 .. Rows.
template <class Scheme, int Rows, int Cols>
inline void run_rows(const linear_job& job, const block& part, int64_t row, int64_t rows,
                     int64_t col, int64_t cols, float* aside) {
  if (rows >= Rows)
    run_tile<Scheme, Rows, Cols>(job, part, row, col, cols, aside);
  else if constexpr (Rows > 1)
    run_rows<Scheme, Rows - 1, Cols>(job, part, row, rows, col, cols, aside);
}

template <class Scheme>
void few_rows(const linear_job& job, const tile_range& range) {
  const block all{0, job.k, true, true, true};
  for (int64_t col = range.col_begin; col < range.col_end; col += tile_cols_wide)
    run_rows<Scheme, rows_wide_max, tile_cols_wide>(
        job, all, range.row_begin, range.row_end - range.row_begin, col, range.col_end - col,
        static_cast<float*>(job.scratch));
}

template <class Scheme>
void linear(const linear_job& job, const tile_range& range) {
  const int64_t rows = range.row_end - range.row_begin;
  if (rows <= rows_wide_max)
    return few_rows<Scheme>(job, range);
  constexpr int cols_tile = 4;
  // Equal tiles: 4 + 4 rows keep the multipliers busier than 6 + 2.
  const int64_t row_tiles = (rows + tile_rows_max - 1) / tile_rows_max;
  const int64_t rows_tile = (rows + row_tiles - 1) / row_tiles;
  // With a single tile of rows nothing is gained by passing over k in blocks.
  const int64_t step = row_tiles == 1 ? job.k : k_block;
  int64_t k = 0;
  do {
    const int64_t k_end = job.k - k <= step + step / 2 ? job.k : k + step;
    block part{k, k_end, k == 0, k_end == job.k, false};
    float* aside = static_cast<float*>(job.scratch);
    for (int64_t col = range.col_begin; col < range.col_end; col += cols_tile)
      for (int64_t row = range.row_begin; row < range.row_end; row += rows_tile) {
        const int64_t here = range.row_end - row < rows_tile ? range.row_end - row : rows_tile;
        part.fetch = row == range.row_begin;
        run_rows<Scheme, tile_rows_max, cols_tile>(job, part, row, here, col, range.col_end - col,
                                                   aside);
        aside += tile_rows_max * cols_tile * lanes;
      }
    k = k_end;
  } while (k < job.k);
}

} // namespace
} // namespace troupe::gpu::cpu
