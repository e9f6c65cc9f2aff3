#pragma once
#include <stdint.h>

/// AMX's tile registers as body_amx.hpp sees them. Own assembly instead of the compiler's
/// intrinsics: g++ 12's _tile_loadconfig says that it reads 8 of the 64 bytes, so the compiler may
/// drop the stores that filled the rest, and the first tile instruction dies.
namespace troupe::gpu::cpu {
namespace {

struct amx_tiles {
  static constexpr int count = 8;

  /// Rows and bytes per row of each tile; tiles that are not named have none.
  struct shape {
    unsigned char palette = 1;
    unsigned char start_row = 0;
    unsigned char reserved[14] = {};
    uint16_t row_bytes[16] = {};
    unsigned char rows[16] = {};
    void set(int tile, int64_t tile_rows, int64_t bytes) {
      rows[tile] = static_cast<unsigned char>(tile_rows);
      row_bytes[tile] = static_cast<uint16_t>(bytes);
    }
  };

  /// Until `release`, tiles have these shapes; all are zero.
  void configure(const shape& shapes) {
    static_assert(sizeof(shape) == 64);
    asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
  }
  void release() { asm volatile("tilerelease" : : : "memory"); }

  template <int Tile>
  void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
  }
  /// Rows are `stride` bytes apart.
  template <int Tile>
  void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(Tile), "r"(from), "r"(stride) : "memory");
  }
  template <int Tile>
  void store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(Tile), "r"(to), "r"(stride) : "memory");
  }
  /// Sums (float) += A (pairs of bf16) * B (pairs of bf16, as in a panel).
  template <int Sums, int A, int B>
  void add_pairs() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(A), "i"(B));
  }
  /// Sums (int32) += A (fours of signed bytes) * B (fours of unsigned bytes, as in a panel).
  template <int Sums, int A, int B>
  void add_bytes() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(A), "i"(B));
  }
};

} // namespace
} // namespace troupe::gpu::cpu
