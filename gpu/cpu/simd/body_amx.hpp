#pragma once
#include "gpu/cpu/simd/body_panels.hpp"

/// Products in tile registers, over vec_avx512.hpp and a tiles_*.hpp (`Tiles`: AMX or its
/// emulation). Weights lie in the panels that the vector kernels read too: a panel's pairs of 32
/// elements, or its groups of a block of bytes, are one tile.
namespace troupe::gpu::cpu {
namespace {

constexpr int64_t tile_rows = 16;

/// bf16: two tiles of rows times two panels, or one times four, which reads more of the weights
/// side by side where rows are few and memory is what one waits for. Tiles 0 .. 3 hold sums; each
/// row tile of x has one of its own, and the weights what is left.
template <class Tiles>
class tile_pairs {
public:
  tile_pairs(const panel_job& job, const tile_range& range)
      : job_{job}, range_{range}, rows_{range.row_end - range.row_begin} {}

  void run() {
    const int64_t step = (rows_ <= tile_rows ? 4 : 2) * panel_cols;
    for (int64_t col = range_.col_begin; col < range_.col_end; col += step) {
      const int64_t left = range_.col_end - col;
      run_columns(col, left < step ? left : step);
    }
    tiles_.release();
  }

private:
  static constexpr int64_t block_bytes = 1024; ///< of a panel

  /// Blocks of k outside, so that the weights of a pass stay in the L1 cache while all rows go over
  /// them. Sums are put aside unrounded.
  void run_columns(int64_t col, int64_t cols) {
    constexpr int64_t pass_blocks = 16;
    const int64_t step = rows_ <= 2 * tile_rows ? job_.blocks : pass_blocks;
    const auto panels = static_cast<int>((cols + panel_cols - 1) / panel_cols);
    for (int64_t block = 0; block < job_.blocks; block += step) {
      const panel_pass pass{block, block + step < job_.blocks ? block + step : job_.blocks,
                            block == 0, false, false};
      for (int64_t row = 0; row < rows_; row += 2 * tile_rows)
        run_rows(pass, row, col, panels);
    }
    for (int64_t row = 0; row < rows_; ++row)
      for (int panel = 0; panel < panels; ++panel)
        store_row<1>(job_, {load_f32(sums(row, panel))}, range_.row_begin + row,
                     col + panel * panel_cols, cols - panel * panel_cols);
  }

  void run_rows(const panel_pass& pass, int64_t row, int64_t col, int panels) {
    if (rows_ - row > tile_rows)
      return panels == 2 ? run_tiles<2, 2>(pass, row, col) : run_tiles<2, 1>(pass, row, col);
    switch (panels) {
    case 1:
      return run_tiles<1, 1>(pass, row, col);
    case 2:
      return run_tiles<1, 2>(pass, row, col);
    case 3:
      return run_tiles<1, 3>(pass, row, col);
    default:
      return run_tiles<1, 4>(pass, row, col);
    }
  }

  static constexpr int64_t sums_stride = 4 * panel_cols * 4;
  float* sums(int64_t row, int panel) const {
    return static_cast<float*>(job_.scratch) + (4 * row + panel) * panel_cols;
  }

  template <int RowTiles, int Panels>
  void run_tiles(const panel_pass& pass, int64_t row, int64_t col) {
    const int64_t left = rows_ - row - (RowTiles - 1) * tile_rows;
    configure<RowTiles, Panels>(left < tile_rows ? left : tile_rows);
    each_sum<RowTiles, Panels>([&]<int Tile, int RowTile, int Panel>() {
      if (pass.first)
        tiles_.template zero<Tile>();
      else
        tiles_.template load<Tile>(sums(row + RowTile * tile_rows, Panel), sums_stride);
    });
    const auto* x = static_cast<const unsigned char*>(job_.x) +
                    (range_.row_begin + row) * job_.x_row_bytes + pass.begin * 64;
    const unsigned char* w =
        job_.panels + col / panel_cols * job_.panel_bytes + pass.begin * block_bytes;
    for (int64_t block = pass.begin; block < pass.end; ++block, x += 64, w += block_bytes) {
      tiles_.template load<4>(x, job_.x_row_bytes);
      if constexpr (RowTiles == 2)
        tiles_.template load<5>(x + tile_rows * job_.x_row_bytes, job_.x_row_bytes);
      each_sum<RowTiles, Panels>([&]<int Tile, int RowTile, int Panel>() {
        constexpr int weights = weights_tile<RowTiles>(Panel);
        if constexpr (RowTile == 0)
          tiles_.template load<weights>(w + Panel * job_.panel_bytes, 64);
        tiles_.template add_pairs<Tile, 4 + RowTile, weights>();
      });
    }
    each_sum<RowTiles, Panels>([&]<int Tile, int RowTile, int Panel>() {
      tiles_.template store<Tile>(sums(row + RowTile * tile_rows, Panel), sums_stride);
    });
  }

  /// Two row tiles keep two panels' weights at a time; one goes through three tiles in turns.
  template <int RowTiles>
  static constexpr int weights_tile(int panel) {
    return RowTiles == 2 ? 6 + panel : 5 + panel % 3;
  }

  /// Calls body.operator()<tile, row tile, panel>() for every tile of sums.
  template <int RowTiles, int Panels, class Body>
  static void each_sum(const Body& body) {
    static_assert(RowTiles * Panels <= 4 && (RowTiles == 1 || Panels <= 2));
    body.template operator()<0, 0, 0>();
    if constexpr (Panels > 1)
      body.template operator()<1, 0, 1>();
    if constexpr (Panels > 2)
      body.template operator()<2, 0, 2>();
    if constexpr (Panels > 3)
      body.template operator()<3, 0, 3>();
    if constexpr (RowTiles > 1)
      body.template operator()<2, 1, 0>();
    if constexpr (RowTiles > 1 && Panels > 1)
      body.template operator()<3, 1, 1>();
  }

  /// Configuring costs as much as some products: only where the shapes change.
  template <int RowTiles, int Panels>
  void configure(int64_t last_rows) {
    const int64_t key = (last_rows * 2 + RowTiles - 1) * 4 + Panels - 1;
    if (key == configured_)
      return;
    configured_ = key;
    typename Tiles::shape shape{};
    each_sum<RowTiles, Panels>([&]<int Tile, int RowTile, int Panel>() {
      const int64_t rows = RowTile == RowTiles - 1 ? last_rows : tile_rows;
      shape.set(Tile, rows, 64);
      shape.set(4 + RowTile, rows, 64);
      shape.set(weights_tile<RowTiles>(Panel), 16, 64);
    });
    tiles_.configure(shape);
  }

  const panel_job& job_;
  const tile_range& range_;
  int64_t rows_;
  int64_t configured_ = -1;
  Tiles tiles_;
};

template <class Tiles>
void linear_tile_pairs(const panel_job& job, const tile_range& range) {
  tile_pairs<Tiles>{job, range}.run();
}

/// The bytes of one part of a block's values: where they are, or spread out.
template <class Panel, int Part>
inline const unsigned char* part_bytes(const unsigned char* values, unsigned char* spread) {
  if constexpr (!Panel::values::small) {
    return values;
  } else {
    constexpr int first = Part * 8 / Panel::heads::parts;
    Panel::values::template each_group<Panel::heads::parts, Part, 1>(
        &values, [&](const ivec* weights, int group) {
          _mm512_store_si512(spread + (group - first) * 64, weights[0]);
        });
    return spread;
  }
}

/// Bytes: up to sixteen rows times one panel, a product of tiles for each part of a block that has
/// scales of its own. The same sums in the same order as in byte_panel. Tiles 0 and 1 hold sums by
/// turns, 2 and 3 rows of x, 4 and 5 weights.
template <class Tiles, class Panel>
class tile_bytes {
public:
  tile_bytes(const panel_job& job, const tile_range& range) : job_{job}, range_{range} {}

  void run() {
    for (int64_t row = range_.row_begin; row < range_.row_end; row += tile_rows) {
      const int64_t left = range_.row_end - row;
      rows_ = left < tile_rows ? left : tile_rows;
      x_ = static_cast<const activation_block*>(job_.x) + row * job_.blocks;
      typename Tiles::shape shape{};
      for (int turn = 0; turn < 2; ++turn) {
        shape.set(turn, rows_, 64);
        shape.set(2 + turn, rows_, part_elements);
        shape.set(4 + turn, part_elements / 4, 64);
      }
      tiles_.configure(shape);
      for (int64_t col = range_.col_begin; col < range_.col_end; col += panel_cols)
        run_panel(row, col);
      tiles_.release();
    }
  }

private:
  using heads = typename Panel::heads;
  static constexpr int parts = heads::parts;
  static constexpr int64_t part_elements = 32 / parts;

  void run_panel(int64_t row, int64_t col) {
    panel_ = job_.panels + col / panel_cols * job_.panel_bytes;
    vec sums[tile_rows];
#pragma GCC unroll 16
    for (int r = 0; r < tile_rows; ++r)
      sums[r] = zero();
    // Two products under way at a time: two blocks, or both parts of one.
    constexpr int64_t step = parts == 2 ? 1 : 2;
    for (int64_t block = 0; block < job_.blocks; block += step) {
      const bool two = parts == 2 || block + 1 < job_.blocks;
      const int64_t next = block + step - 1;
      multiply<0, 0>(block);
      if (two)
        multiply<1, parts - 1>(next);
      add_up<0, 0>(block, sums);
      if (two)
        add_up<1, parts - 1>(next, sums);
    }
    for (int r = 0; r < rows_; ++r)
      store_row<1>(job_, {sums[r]}, row + r, col, range_.col_end - col);
  }

  template <int Turn, int Part>
  void multiply(int64_t block) {
    const unsigned char* values =
        panel_ + heads::bytes(job_.blocks) + block * Panel::values::value_bytes;
    tiles_.template zero<Turn>();
    tiles_.template load<2 + Turn>(x_[block].values + Part * part_elements, job_.x_row_bytes);
    tiles_.template load<4 + Turn>(part_bytes<Panel, Part>(values, spread_[Turn]), 64);
    tiles_.template add_bytes<Turn, 2 + Turn, 4 + Turn>();
    tiles_.template store<Turn>(dots_[Turn], 64);
  }

  template <int Turn, int Part>
  void add_up(int64_t block, vec (&sums)[tile_rows]) {
    const vec scale = heads::template scale<Part>(panel_, block, 0);
    const vec minimum = heads::minimum(panel_, block, 0);
#pragma GCC unroll 16
    for (int r = 0; r < tile_rows; ++r) {
      // Rows past the end add up what nobody looks at.
      const activation_block& x = x_[(r < rows_ ? r : 0) * job_.blocks + block];
      ivec dots = load_groups(dots_[Turn][r]);
      if constexpr (!heads::has_minimum)
        dots = _mm512_add_epi32(dots, splat_int(&x.start[Part]));
      sums[r] = fma(to_float(dots), mul(scale, splat(x.scale)), sums[r]);
      if constexpr (heads::has_minimum)
        sums[r] = fma(minimum, splat(x.sum), sums[r]);
    }
  }

  const panel_job& job_;
  const tile_range& range_;
  const activation_block* x_ = nullptr;
  const unsigned char* panel_ = nullptr;
  int64_t rows_ = 0;
  Tiles tiles_;
  alignas(64) unsigned char spread_[2][512];
  alignas(64) int32_t dots_[2][tile_rows][panel_cols] = {};
};

/// Few rows leave most of a tile empty; vectors give the same bits.
template <class Tiles, class Panel>
void linear_tile_bytes(const panel_job& job, const tile_range& range) {
  constexpr int64_t rows_worth_tiles = 8;
  if (range.row_end - range.row_begin < rows_worth_tiles)
    linear_panels<Panel>(job, range);
  else
    tile_bytes<Tiles, Panel>{job, range}.run();
}

} // namespace
} // namespace troupe::gpu::cpu
