#pragma once
#include <cstdint>

#include "base/blocks.hpp"
#include "gpu/cpu/panels.hpp"

/// Where the parts of a panel lie, for those who write and read it plainly.
namespace troupe::gpu::cpu {

constexpr int64_t group_bytes = 4;
constexpr int64_t line_bytes = panel_rows * group_bytes;
constexpr int64_t f16_line = panel_rows * 2;
constexpr int values_per_block = static_cast<int>(block_elements);
constexpr int body_bytes_max = 2 * values_per_block;

/// How a type lies in panels.
struct panel_form {
  int64_t unit;       ///< blocks of 32 elements that share a head
  int64_t head_bytes; ///< of one row
  int64_t body_bytes; ///< of 32 elements of one row
};

inline panel_form panel_form_of(dtype type) {
  switch (type) {
  case dtype::q8_0:
    return {1, 2, 32};
  case dtype::q4_0:
    return {1, 2, 16};
  case dtype::q4_1:
    return {1, 4, 16};
  case dtype::q5_0:
    return {1, 2, 20};
  case dtype::q5_1:
    return {1, 4, 20};
  case dtype::q4_k:
    return {8, 16, 16};
  case dtype::q5_k:
    return {8, 16, 20};
  case dtype::q6_k:
    return {8, 18, 24};
  case dtype::f8_b128:
    return {4, 4, 32};
  default:
    return {1, 0, 2 * values_per_block};
  }
}

inline int64_t heads_bytes(const panel_form& f, int64_t blocks) {
  return blocks / f.unit * f.head_bytes * panel_rows;
}

/// Which byte of a block of f8_b128 element i is, and which element byte i is.
constexpr int f8_place(int i) { return i % 4 == 1 || i % 4 == 2 ? i ^ 3 : i; }

/// Of a head of q4_k or q5_k.
constexpr int64_t low_bits_at = 2 * f16_line, high_bits_at = low_bits_at + 8 * panel_rows;

} // namespace troupe::gpu::cpu
