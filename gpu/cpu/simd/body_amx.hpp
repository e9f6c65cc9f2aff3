#pragma once
#include "gpu/cpu/simd/body_panels.hpp"

/// Products in tile registers, over vec_avx512.hpp and a tiles_*.hpp (`Tiles`: AMX or its
/// emulation). Weights lie in the panels that the vector kernels read too: a panel's pairs of 32
/// elements, or its groups of a block of bytes, are one tile.
namespace troupe::gpu::cpu {
namespace {

constexpr int64_t tile_rows = 16;

/// bf16: two tiles of rows times two panels. Tiles 0 .. 3 hold sums, 4 and 5 rows of x, 6 and 7
/// weights.
template <class Tiles>
class tile_pairs {
public:
  tile_pairs(const panel_job& job, const tile_range& range) : job_{job}, range_{range} {}

  void run() {
    for (int64_t col = range_.col_begin; col < range_.col_end; col += 2 * panel_cols)
      run_columns(col, range_.col_end - col > panel_cols);
    tiles_.release();
  }

private:
  static constexpr int64_t block_bytes = 1024; ///< of a panel

  /// Blocks of k outside, so that the weights of a pass stay in the L1 cache while all rows go over
  /// them. Sums are put aside unrounded.
  void run_columns(int64_t col, bool two_panels) {
    constexpr int64_t pass_blocks = 16;
    const int64_t rows = range_.row_end - range_.row_begin;
    const int64_t step = rows <= 2 * tile_rows ? job_.blocks : pass_blocks;
    for (int64_t block = 0; block < job_.blocks; block += step) {
      const panel_pass pass{block, block + step < job_.blocks ? block + step : job_.blocks,
                            block == 0, false};
      for (int64_t row = 0; row < rows; row += 2 * tile_rows) {
        const bool two_tiles = rows - row > tile_rows;
        if (two_tiles && two_panels)
          run_tiles<2, 2>(pass, row, col);
        else if (two_tiles)
          run_tiles<2, 1>(pass, row, col);
        else if (two_panels)
          run_tiles<1, 2>(pass, row, col);
        else
          run_tiles<1, 1>(pass, row, col);
      }
    }
    for (int64_t row = 0; row < rows; ++row)
      for (int panel = 0; panel <= (two_panels ? 1 : 0); ++panel) {
        const int64_t at = col + panel * panel_cols;
        store_row<1>(job_, {load_f32(sums(row, panel))}, range_.row_begin + row, at,
                     range_.col_end - at);
      }
  }

  float* sums(int64_t row, int panel) const {
    return static_cast<float*>(job_.scratch) + (2 * row + panel) * panel_cols;
  }

  template <int RowTiles, int Panels>
  void run_tiles(const panel_pass& pass, int64_t row, int64_t col) {
    const int64_t left = range_.row_end - range_.row_begin - row - (RowTiles - 1) * tile_rows;
    configure<RowTiles, Panels>(left < tile_rows ? left : tile_rows);
    each_sum<RowTiles, Panels>([&]<int Tile>() {
      if (pass.first)
        tiles_.template zero<Tile>();
      else
        tiles_.template load<Tile>(sums(row + Tile / 2 * tile_rows, Tile % 2), sums_stride);
    });
    const auto* x = static_cast<const unsigned char*>(job_.x) +
                    (range_.row_begin + row) * job_.x_row_bytes + pass.begin * 64;
    const unsigned char* w =
        job_.panels + col / panel_cols * job_.panel_bytes + pass.begin * block_bytes;
    for (int64_t block = pass.begin; block < pass.end; ++block, x += 64, w += block_bytes) {
      tiles_.template load<4>(x, job_.x_row_bytes);
      tiles_.template load<6>(w, 64);
      tiles_.template add_pairs<0, 4, 6>();
      if constexpr (Panels == 2) {
        tiles_.template load<7>(w + job_.panel_bytes, 64);
        tiles_.template add_pairs<1, 4, 7>();
      }
      if constexpr (RowTiles == 2) {
        tiles_.template load<5>(x + tile_rows * job_.x_row_bytes, job_.x_row_bytes);
        tiles_.template add_pairs<2, 5, 6>();
        if constexpr (Panels == 2)
          tiles_.template add_pairs<3, 5, 7>();
      }
    }
    each_sum<RowTiles, Panels>([&]<int Tile>() {
      tiles_.template store<Tile>(sums(row + Tile / 2 * tile_rows, Tile % 2), sums_stride);
    });
  }

  static constexpr int64_t sums_stride = 2 * panel_cols * 4;

  /// Calls body.operator()<tile>() for every tile of sums: 2 * row tile + panel.
  template <int RowTiles, int Panels, class Body>
  void each_sum(const Body& body) {
    body.template operator()<0>();
    if constexpr (Panels == 2)
      body.template operator()<1>();
    if constexpr (RowTiles == 2)
      body.template operator()<2>();
    if constexpr (RowTiles == 2 && Panels == 2)
      body.template operator()<3>();
  }

  /// Configuring costs as much as some products: only where the shapes change.
  template <int RowTiles, int Panels>
  void configure(int64_t last_rows) {
    const int64_t key = (last_rows * 2 + RowTiles - 1) * 2 + Panels - 1;
    if (key == configured_)
      return;
    configured_ = key;
    typename Tiles::shape shape{};
    for (int tile = 0; tile < RowTiles; ++tile) {
      const int64_t rows = tile == RowTiles - 1 ? last_rows : tile_rows;
      shape.set(4 + tile, rows, 64);
      for (int panel = 0; panel < Panels; ++panel)
        shape.set(2 * tile + panel, rows, 64);
    }
    for (int panel = 0; panel < Panels; ++panel)
      shape.set(6 + panel, 16, 64);
    tiles_.configure(shape);
  }

  const panel_job& job_;
  const tile_range& range_;
  int64_t configured_ = -1;
  Tiles tiles_;
};

template <class Tiles>
void linear_tile_pairs(const panel_job& job, const tile_range& range) {
  tile_pairs<Tiles>{job, range}.run();
}

/// A block's values as bytes: where they are, or spread out from nibbles.
inline const unsigned char* spread_bytes(q8_0_panel, const unsigned char* values, unsigned char*) {
  return values;
}
inline const unsigned char* spread_bytes(q4_0_panel, const unsigned char* values,
                                         unsigned char* spread) {
#pragma GCC unroll 4
  for (int group = 0; group < 4; ++group) {
    const ivec both = load_groups(values + group * 64);
    _mm512_store_si512(spread + group * 64, low_nibbles(both));
    _mm512_store_si512(spread + (group + 4) * 64, high_nibbles(both));
  }
  return spread;
}

/// Bytes: up to sixteen rows times one panel, a product of tiles for each block, because every
/// block has scales of its own. The same sums in the same order as in byte_panel. Tiles 0 and 1
/// hold sums by turns, 2 and 3 rows of x, 4 and 5 weights.
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
        shape.set(2 + turn, rows_, 32);
        shape.set(4 + turn, 8, 64);
      }
      tiles_.configure(shape);
      for (int64_t col = range_.col_begin; col < range_.col_end; col += panel_cols)
        run_panel(row, col);
      tiles_.release();
    }
  }

private:
  void run_panel(int64_t row, int64_t col) {
    panel_ = job_.panels + col / panel_cols * job_.panel_bytes;
    vec sums[tile_rows];
#pragma GCC unroll 16
    for (int r = 0; r < tile_rows; ++r)
      sums[r] = zero();
    for (int64_t block = 0; block < job_.blocks; block += 2) {
      const bool two = block + 1 < job_.blocks;
      multiply<0>(block);
      if (two)
        multiply<1>(block + 1);
      add_up(0, block, sums);
      if (two)
        add_up(1, block + 1, sums);
    }
    for (int r = 0; r < rows_; ++r)
      store_row<1>(job_, {sums[r]}, row + r, col, range_.col_end - col);
  }

  template <int Turn>
  void multiply(int64_t block) {
    const unsigned char* values = panel_ + job_.blocks * 32 + block * Panel::value_bytes;
    tiles_.template zero<Turn>();
    tiles_.template load<2 + Turn>(x_[block].values, job_.x_row_bytes);
    tiles_.template load<4 + Turn>(spread_bytes(Panel{}, values, spread_[Turn]), 64);
    tiles_.template add_bytes<Turn, 2 + Turn, 4 + Turn>();
    tiles_.template store<Turn>(dots_[Turn], 64);
  }

  void add_up(int turn, int64_t block, vec (&sums)[tile_rows]) {
    const vec scale = load_f16(panel_ + block * 32);
#pragma GCC unroll 16
    for (int r = 0; r < tile_rows; ++r) {
      // Rows past the end add up what nobody looks at.
      const activation_block& x = x_[(r < rows_ ? r : 0) * job_.blocks + block];
      const ivec dots = _mm512_add_epi32(load_groups(dots_[turn][r]), splat_int(&x.start));
      sums[r] = fma(to_float(dots), mul(scale, splat(x.scale)), sums[r]);
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
