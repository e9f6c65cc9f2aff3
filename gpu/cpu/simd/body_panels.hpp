#pragma once
#include "gpu/cpu/kernels.hpp"

/// Products with weights in panels over the primitives of the simd/vec_*.hpp that was included
/// before.
///
/// A vector holds one group of four bytes for as many columns as it has lanes, so that nothing is
/// left to add up across lanes at the end. Each output adds its groups or blocks one after another:
/// tiles decide only which outputs are computed side by side.
namespace troupe::gpu::cpu {
namespace {

struct q8_0_groups {
  static constexpr int64_t value_bytes = 512; ///< of a block in a panel
  /// Calls dot(which of the vectors of weights of column vector v, group of x) for all products.
  template <int Vectors, class Dot>
  static void each_group(const unsigned char* const* values, const Dot& dot) {
#pragma GCC unroll 8
    for (int group = 0; group < 8; ++group) {
      ivec weights[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        weights[v] = load_groups(values[v] + group * 64);
      dot(weights, group);
    }
  }
  static constexpr bool small = false;
};

struct q4_0_groups {
  static constexpr int64_t value_bytes = 256;
  template <int Vectors, class Dot>
  static void each_group(const unsigned char* const* values, const Dot& dot) {
#pragma GCC unroll 8
    for (int group = 0; group < 4; ++group) {
      ivec low[Vectors], high[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const ivec both = load_groups(values[v] + group * 64);
        low[v] = low_nibbles(both);
        high[v] = high_nibbles(both);
      }
      dot(low, group);
      dot(high, group + 4);
    }
  }
  static constexpr bool small = true;
};

/// Bytes: sums of a block are exact, and each output adds its blocks one after another.
template <class Groups>
struct byte_panel : Groups {
  static constexpr int rows_few = panel_rows_few;
  static constexpr int vectors_few = panel_vectors_few;
  static constexpr int rows_some = 0; // a second walk is no slower: what it reads is still close
  static constexpr int vectors_some = 0;
  static constexpr int rows_many = panel_rows_many;
  static constexpr int vectors_many = panel_vectors_many;
  static constexpr int64_t pass_blocks = 16;

  /// Adds blocks [begin, end) to the sums of one register tile.
  template <int Rows, int Vectors>
  static void add(const panel_job& job, int64_t begin, int64_t end, int64_t row,
                  const unsigned char* const* panels, const int* parts,
                  vec (&sums)[Rows][Vectors]) {
    const auto* x = static_cast<const activation_block*>(job.x) + row * job.blocks;
    for (int64_t block = begin; block < end; ++block) {
      const unsigned char* values[Vectors];
      ivec dots[Rows][Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        values[v] = panels[v] + job.blocks * 32 + block * Groups::value_bytes + parts[v] * 4;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          dots[r][v] = splat_int(&x[r * job.blocks + block].start);
      Groups::template each_group<Vectors>(values, [&](const ivec* weights, int group) {
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          const ivec four = splat_int(&x[r * job.blocks + block].values[group * 4]);
#pragma GCC unroll 8
          for (int v = 0; v < Vectors; ++v)
            dots[r][v] = dot_groups<Groups::small>(dots[r][v], weights[v], four);
        }
      });
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        const vec scale = load_f16(panels[v] + block * 32 + parts[v] * 2);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r)
          sums[r][v] = fma(to_float(dots[r][v]), mul(scale, splat(x[r * job.blocks + block].scale)),
                           sums[r][v]);
      }
    }
  }
};

using q8_0_panel = byte_panel<q8_0_groups>;
using q4_0_panel = byte_panel<q4_0_groups>;

template <int Vectors>
inline void store_row(const panel_job& job, const vec (&sums)[Vectors], int64_t row, int64_t col,
                      int64_t cols) {
  float* out = job.out + row * job.out_stride + col;
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) {
    const int64_t left = cols - v * lanes;
    if (left <= 0)
      return;
    const int64_t n = left < lanes ? left : lanes;
    vec value = sums[v];
    if (job.bias != nullptr)
      value = add(value, load_f32_part(job.bias + col + v * lanes, n));
    if (job.accumulate)
      value = add(load_f32_part(out + v * lanes, n), value);
    store_f32_part(out + v * lanes, value, n);
  }
}

/// Blocks that a pass over the rows covers: what a tile reads of the weights then stays in the L1
/// cache.
struct panel_pass {
  int64_t begin;
  int64_t end;
  bool first;
  bool last;
};

/// `aside` holds the tile's sums between passes.
template <class Panel, int Rows, int Vectors>
inline void run_panel_tile(const panel_job& job, const panel_pass& pass, int64_t row, int64_t col,
                           int64_t cols, float* aside) {
  const unsigned char* panels[Vectors];
  int parts[Vectors];
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) { // columns past the end repeat the first and are not stored
    const int64_t at = v * lanes < cols ? col + v * lanes : col;
    panels[v] = job.panels + at / panel_cols * job.panel_bytes;
    parts[v] = static_cast<int>(at % panel_cols);
  }
  vec sums[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      sums[r][v] = pass.first ? zero() : load_f32(aside + (r * Vectors + v) * lanes);
  Panel::add(job, pass.begin, pass.end, row, panels, parts, sums);
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    if (pass.last)
      store_row(job, sums[r], row + r, col, cols);
    else
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        store_f32(aside + (r * Vectors + v) * lanes, sums[r][v]);
  }
}

/// Calls the tile for `rows` rows, 1 .. Rows.
template <class Panel, int Rows, int Vectors>
inline void run_panel_rows(const panel_job& job, const panel_pass& pass, int64_t row, int64_t rows,
                           int64_t col, int64_t cols, float* aside) {
  if (rows >= Rows)
    run_panel_tile<Panel, Rows, Vectors>(job, pass, row, col, cols, aside);
  else if constexpr (Rows > 1)
    run_panel_rows<Panel, Rows - 1, Vectors>(job, pass, row, rows, col, cols, aside);
}

template <class Panel, int Rows, int Vectors>
void panel_tiles(const panel_job& job, const tile_range& range) {
  const int64_t rows = range.row_end - range.row_begin;
  const int64_t row_tiles = (rows + Rows - 1) / Rows;
  const int64_t rows_tile = (rows + row_tiles - 1) / row_tiles;
  const int64_t step = row_tiles == 1 ? job.blocks : Panel::pass_blocks;
  int64_t block = 0;
  do {
    const int64_t end = job.blocks - block <= step + step / 2 ? job.blocks : block + step;
    const panel_pass pass{block, end, block == 0, end == job.blocks};
    float* aside = static_cast<float*>(job.scratch);
    for (int64_t col = range.col_begin; col < range.col_end; col += Vectors * lanes)
      for (int64_t row = range.row_begin; row < range.row_end; row += rows_tile) {
        const int64_t here = range.row_end - row < rows_tile ? range.row_end - row : rows_tile;
        run_panel_rows<Panel, Rows, Vectors>(job, pass, row, here, col, range.col_end - col, aside);
        aside += Rows * Vectors * lanes;
      }
    block = end;
  } while (block < job.blocks);
}

template <class Panel>
void linear_panels(const panel_job& job, const tile_range& range) {
  const int64_t rows = range.row_end - range.row_begin;
  if constexpr (Panel::rows_some > Panel::rows_many)
    if (rows > Panel::rows_many && rows <= Panel::rows_some)
      return panel_tiles<Panel, Panel::rows_some, Panel::vectors_some>(job, range);
  if (rows > Panel::rows_few)
    return panel_tiles<Panel, Panel::rows_many, Panel::vectors_many>(job, range);
  constexpr int64_t wide = Panel::vectors_few * lanes;
  const int64_t whole = (range.col_end - range.col_begin) / wide * wide;
  tile_range part = range;
  part.col_end = range.col_begin + whole;
  panel_tiles<Panel, Panel::rows_few, Panel::vectors_few>(job, part);
  part.col_begin = part.col_end;
  part.col_end = range.col_end;
  panel_tiles<Panel, Panel::rows_few, Panel::vectors_many>(job, part);
}

} // namespace
} // namespace troupe::gpu::cpu
