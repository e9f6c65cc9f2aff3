#pragma once
#include <cstddef>
#include <cstdint>

#include "gpu/ops.hpp"

/// Weights laid out for kernels that compute sixteen columns of the output side by side
/// (`weight_layout::panels`).
///
/// Sixteen rows of the weight make a panel: the heads of its first blocks (scales and minimums),
/// then of its second blocks and so on, and after them the values. The values of 32 elements are
/// groups of four bytes, the group that each of the sixteen rows has at the same place side by side
/// (64 bytes; what the byte dot products and AMX's tiles read at once):
///
/// - q8_0: the 32 bytes, with 128 added, since those instructions take one side without a sign.
/// - 4 bits: four groups; the low nibbles of a group are the elements 4 i .. 4 i + 3, the high ones
///   16 more.
/// - 5 bits: first a group of fifth bits, bit g of byte t that of element 4 g + t; then the
/// nibbles.
/// - q6_k: first two groups of upper bits, bits 2 g and 2 g + 1 of byte t those of element
///   4 g + t, sixteen elements in each; then the nibbles, where the high ones are 4 elements more
///   than the low ones, eight in each group.
/// - f8_b128: of the four bytes of a group, the second and the third change places, so that even
/// and
///   odd bytes are pairs of elements.
/// - bf16: pairs of elements; no heads. Its cols are a multiple of 32.
///
/// Heads, a number of each row side by side: the f16 scale of 32 elements; with f8_b128 the f32
/// scale of 128; with q4_1 and q5_1 their f16 minimum after it. Of 256 elements, q4_k and q5_k have
/// the units of scales and minimums (f16), then eight bytes with the low four bits of a scale and,
/// above them, of its minimum, then four with the upper two bits of both, for two times 32 elements
/// each; q6_k has the unit (f16) and sixteen scales.
///
/// Rows that do not fill a panel follow as plain rows, so that a weight has the same size in every
/// layout.
namespace troupe::gpu::cpu {

constexpr int64_t panel_rows = 16;

/// The kernels for panels of that type, as an index into `kernel_table::linear_panels`.
size_t panel_kind_of(dtype type);

/// What the values of that type in a panel have added; 0 where there is a minimum.
int32_t added_to(dtype type);

/// Bytes of one row of `k` elements (blocks or bf16), or a sixteenth of a panel.
int64_t block_row_bytes(dtype type, int64_t k);

/// Lays out `count` rows (1 .. panel_rows) of blocks or bf16 as one panel; absent rows are zeros.
void pack_panel(dtype type, const unsigned char* rows, int64_t count, int64_t k,
                unsigned char* panel);

/// The same of a whole panel that is not read soon: of a weight that is being loaded.
void place_panel(dtype type, const unsigned char* rows, int64_t k, unsigned char* panel);

/// Elements 32 * block .. + 31 of one row of a panel; exact.
void unpack_block(dtype type, const unsigned char* panel, int64_t row, int64_t block, int64_t k,
                  float* out);

} // namespace troupe::gpu::cpu
