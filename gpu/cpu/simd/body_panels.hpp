#pragma once
#include "gpu/cpu/simd/body_byte_panels.hpp"

/// Products with weights in panels over the primitives of the simd/vec_*.hpp that was included
/// before.
///
/// A vector holds one group of four bytes for as many columns as it has lanes, so that nothing is
/// left to add up across lanes at the end. Each output adds its groups or blocks one after another:
/// tiles decide only which outputs are computed side by side.
namespace troupe::gpu::cpu {
namespace {

/// Blocks that a pass over the rows covers: what a tile reads of the weights then stays in the L1
/// cache.
struct panel_pass {
  int64_t begin;
  int64_t end;
  bool first;
  bool last;
  bool fetch; ///< the tile's weights come from afar: it is the first of its columns
};

/// Where a walk over a tile's blocks asks for weights that follow: so many bytes behind those that
/// it reads.
struct panel_walk {
  int64_t begin;
  int64_t end;
  int64_t next_bytes;
};

/// More than a page: within one the processor looks ahead by itself, and asking as well makes it
/// slower.
constexpr int64_t bytes_ahead = 8192;

/// Asks for a line in the L2 cache: the L1 cache has too few misses in flight for the bandwidth of
/// memory.
inline void fetch_line(const unsigned char* p) { __builtin_prefetch(p, 0, 2); }

/// Rows that a call of `linear_panels` covers at most: unpacked blocks serve as many.
constexpr int64_t panel_call_rows_max = 96;

/// Bytes: sums of a block, or of its parts, are exact, and each output adds them one after another;
/// where a block has a minimum, it is added last, times the sum of the block's activations.
template <class Heads, class Values>
struct byte_panel {
  using heads = Heads;
  using values = Values;
  static constexpr int rows_few = panel_rows_few;
  static constexpr int vectors_few = panel_vectors_few;
  static constexpr int rows_some = panel_rows_few;
  static constexpr int vectors_some = panel_vectors_many;
  static constexpr int rows_many = panel_rows_many;
  static constexpr int vectors_many = panel_vectors_many;
  static constexpr int64_t pass_blocks = 16;
  static constexpr int64_t unit = 1; ///< blocks that no walk may part
  static constexpr int64_t value_bytes = Values::value_bytes;
  static constexpr int64_t x_bytes = sizeof(activation_block); ///< of a block of x
  /// Many streams of whole bytes keep the memory busy without.
  template <int Vectors>
  static constexpr bool fetches = lanes == panel_cols &&
                                  (Values::packed || Vectors <= vectors_many);

  /// From so many tiles of rows on it pays to unpack blocks once for all of them.
  static constexpr int64_t unpack_tiles = 6;
  static constexpr bool unpacks = lanes == panel_cols && Heads::in_units;
  using plain_heads = unpacked_heads<Heads::parts, Heads::has_minimum>;
  using unpacked = byte_panel<plain_heads, unpacked_bytes<plain_heads>>;

  /// Writes the blocks of a pass over one panel as those of an `unpacked` one, from the first on.
  static void unpack(const panel_job& job, const panel_pass& pass, const unsigned char* panel,
                     unsigned char* out) {
    for (int64_t block = pass.begin; block < pass.end; ++block, out += unpacked::value_bytes) {
      const unsigned char* at = panel + Heads::bytes(job.blocks) + block * value_bytes;
      for (int64_t line = 0; line < value_bytes; line += 64)
        fetch_line(at + line + bytes_ahead);
      unpack_part<0>(panel, at, block, out);
      if constexpr (Heads::parts == 2)
        unpack_part<1>(panel, at, block, out);
      if constexpr (Heads::has_minimum)
        put(out + Heads::parts * 64, Heads::minimum(panel, block, 0));
    }
  }

  /// Adds the blocks of a walk to the sums of one register tile.
  template <bool Fetch, int Rows, int Vectors>
  [[gnu::always_inline]] static void add(const panel_job& job, const panel_walk& walk, int64_t row,
                                         const unsigned char* const* panels, const int* cols,
                                         vec (&sums)[Rows][Vectors]) {
    const auto* x = static_cast<const activation_block*>(job.x) + row * job.blocks;
    const int64_t heads_bytes = Heads::bytes(job.blocks);
    for (int64_t block = walk.begin; block < walk.end; ++block) {
      const unsigned char* at[Vectors];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        at[v] = panels[v] + heads_bytes + block * value_bytes + cols[v] * 4;
        if constexpr (Fetch)
#pragma GCC unroll 8
          for (int64_t line = 0; line < value_bytes; line += 64)
            fetch_line(at[v] + line + walk.next_bytes);
      }
      add_part<0>(x + block, job.blocks, block, at, panels, cols, sums);
      if constexpr (Heads::parts == 2)
        add_part<1>(x + block, job.blocks, block, at, panels, cols, sums);
      if constexpr (Heads::has_minimum) {
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
          const vec minimum = Heads::minimum(panels[v], block, cols[v]);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r)
            sums[r][v] = fma(minimum, splat(x[r * job.blocks + block].sum), sums[r][v]);
        }
      }
    }
  }

private:
  template <class Vector>
  static void put(unsigned char* to, const Vector& from) {
    __builtin_memcpy(to, &from, sizeof from);
  }

  template <int Part>
  static void unpack_part(const unsigned char* panel, const unsigned char* at, int64_t block,
                          unsigned char* out) {
    put(out + Part * 64, Heads::template scale<Part>(panel, block, 0));
    Values::template each_group<Heads::parts, Part, 1>(&at, [&](const ivec* weights, int group) {
      put(out + plain_heads::head_bytes + group * 64, weights[0]);
    });
  }

  template <int Part, int Rows, int Vectors>
  [[gnu::always_inline]] static void add_part(const activation_block* x, int64_t x_stride,
                                              int64_t block, const unsigned char* const* at,
                                              const unsigned char* const* panels, const int* cols,
                                              vec (&sums)[Rows][Vectors]) {
    ivec dots[Rows][Vectors];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v)
        dots[r][v] = Heads::has_minimum ? no_groups() : splat_int(&x[r * x_stride].start[Part]);
    Values::template each_group<Heads::parts, Part, Vectors>(
        at, [&](const ivec* weights, int group) __attribute__((always_inline)) {
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) {
            const ivec four = splat_int(&x[r * x_stride].values[group * 4]);
#pragma GCC unroll 8
            for (int v = 0; v < Vectors; ++v)
              dots[r][v] = dot_groups<Values::small>(dots[r][v], weights[v], four);
          }
        });
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      const vec scale = Heads::template scale<Part>(panels[v], block, cols[v]);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        sums[r][v] =
            fma(to_float(dots[r][v]), mul(scale, splat(x[r * x_stride].scale)), sums[r][v]);
    }
  }
};

using q8_0_panel = byte_panel<one_scale, eight_bits>;
using q4_0_panel = byte_panel<one_scale, four_bits>;
using q4_1_panel = byte_panel<scale_and_minimum, four_bits>;
using q5_0_panel = byte_panel<one_scale, five_bits>;
using q5_1_panel = byte_panel<scale_and_minimum, five_bits>;
using q4_k_panel = byte_panel<packed_scales_of_k, four_bits>;
using q5_k_panel = byte_panel<packed_scales_of_k, five_bits>;
using q6_k_panel = byte_panel<two_scales_of_k, six_bits>;

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

/// Adds a pass to the sums of a tile and asks for what is read next, here or in the next tile.
template <class Panel, int Rows, int Vectors>
[[gnu::always_inline]] inline void add_fetching(const panel_job& job, const panel_pass& pass,
                                                int64_t row, const unsigned char* const* panels,
                                                const int* cols, vec (&sums)[Rows][Vectors]) {
  // Behind the end of one of these panels comes the next of them, which this tile reads itself.
  const int64_t ahead = (bytes_ahead + Panel::value_bytes - 1) / Panel::value_bytes;
  const int64_t last = (job.blocks - ahead) / Panel::unit * Panel::unit;
  const int64_t turn = last < pass.begin ? pass.begin : last < pass.end ? last : pass.end;
  const panel_walk walks[] = {
      {pass.begin, turn, bytes_ahead},
      {turn, pass.end, bytes_ahead + (Vectors - 1) * job.panel_bytes},
  };
  for (const auto& walk : walks)
    Panel::template add<true>(job, walk, row, panels, cols, sums);
}

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
  if (Panel::template fetches<Vectors> && pass.fetch)
    add_fetching<Panel>(job, pass, row, panels, parts, sums);
  else
    Panel::template add<false>(job, {pass.begin, pass.end, 0}, row, panels, parts, sums);
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

/// The tiles of all rows over one pass, `rows_tile` rows each.
template <class Panel, int Rows, int Vectors>
inline void run_pass(const panel_job& job, const tile_range& range, int64_t col, int64_t rows_tile,
                     panel_pass pass) {
  float* aside = static_cast<float*>(job.scratch);
  for (int64_t row = range.row_begin; row < range.row_end; row += rows_tile) {
    const int64_t here = range.row_end - row < rows_tile ? range.row_end - row : rows_tile;
    run_panel_rows<Panel, Rows, Vectors>(job, pass, row, here, col, range.col_end - col, aside);
    aside += Rows * Vectors * lanes;
    pass.fetch = false;
  }
}

/// The same over blocks that are unpacked before, behind what is put aside.
template <class Panel, int Rows, int Vectors>
void run_unpacked_pass(const panel_job& job, const tile_range& range, int64_t col,
                       int64_t rows_tile, const panel_pass& pass) {
  using unpacked = typename Panel::unpacked;
  constexpr int64_t aside_bytes = linear_scratch_bytes / 2;
  constexpr int64_t blocks_max = Panel::pass_blocks + Panel::pass_blocks / 2;
  static_assert(aside_bytes + Vectors * blocks_max * unpacked::value_bytes <= linear_scratch_bytes);
  panel_job mine = job;
  auto* to = static_cast<unsigned char*>(job.scratch) + aside_bytes;
  mine.panels = to;
  mine.panel_bytes = blocks_max * unpacked::value_bytes;
  mine.x = static_cast<const unsigned char*>(job.x) + pass.begin * Panel::x_bytes;
  mine.out = job.out + col;
  mine.bias = job.bias == nullptr ? nullptr : job.bias + col;
  const unsigned char* from = job.panels + col / panel_cols * job.panel_bytes;
  for (int64_t at = col; at < range.col_end && at < col + Vectors * lanes; at += panel_cols) {
    Panel::unpack(job, pass, from, to);
    from += job.panel_bytes;
    to += mine.panel_bytes;
  }
  const tile_range here{range.row_begin, range.row_end, 0, range.col_end - col};
  run_pass<unpacked, Rows, Vectors>(mine, here, 0, rows_tile,
                                    {0, pass.end - pass.begin, pass.first, pass.last, false});
}

/// `Vectors` vectors of columns for all rows, a pass after the other.
template <class Panel, int Rows, int Vectors>
inline void panel_columns(const panel_job& job, const tile_range& range, int64_t col) {
  const int64_t rows = range.row_end - range.row_begin;
  const int64_t row_tiles = (rows + Rows - 1) / Rows;
  const int64_t rows_tile = (rows + row_tiles - 1) / row_tiles;
  const int64_t step = row_tiles == 1 ? job.blocks : Panel::pass_blocks;
  int64_t block = 0;
  do {
    const int64_t end = job.blocks - block <= step + step / 2 ? job.blocks : block + step;
    const panel_pass pass{block, end, block == 0, end == job.blocks, true};
    if constexpr (Panel::unpacks && Vectors == Panel::vectors_many) {
      if (row_tiles >= Panel::unpack_tiles)
        run_unpacked_pass<Panel, Rows, Vectors>(job, range, col, rows_tile, pass);
      else
        run_pass<Panel, Rows, Vectors>(job, range, col, rows_tile, pass);
    } else {
      run_pass<Panel, Rows, Vectors>(job, range, col, rows_tile, pass);
    }
    block = end;
  } while (block < job.blocks);
}

template <class Panel, int Rows, int Vectors>
void panel_tiles(const panel_job& job, const tile_range& range) {
  for (int64_t col = range.col_begin; col < range.col_end; col += Vectors * lanes)
    panel_columns<Panel, Rows, Vectors>(job, range, col);
}

template <class Panel>
void linear_panels(const panel_job& job, const tile_range& range) {
  const int64_t rows = range.row_end - range.row_begin;
  if (rows > Panel::rows_some)
    return panel_tiles<Panel, Panel::rows_many, Panel::vectors_many>(job, range);
  if (rows > Panel::rows_few)
    return panel_tiles<Panel, Panel::rows_some, Panel::vectors_some>(job, range);
  constexpr int64_t wide = Panel::vectors_few * lanes;
  const int64_t whole = (range.col_end - range.col_begin) / wide * wide;
  tile_range part = range;
  part.col_end = range.col_begin + whole;
  panel_tiles<Panel, Panel::rows_few, Panel::vectors_few>(job, part);
  part.col_begin = part.col_end;
  part.col_end = range.col_end;
  panel_tiles<Panel, Panel::rows_few, Panel::vectors_some>(job, part);
}

} // namespace
} // namespace troupe::gpu::cpu
