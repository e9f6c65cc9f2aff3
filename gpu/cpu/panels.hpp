#pragma once
#include <cstdint>

#include "gpu/ops.hpp"

/// Weights laid out for kernels that compute sixteen columns of the output side by side
/// (`weight_layout::panels`).
///
/// Sixteen rows of the weight make a panel: the f16 scales of its first blocks, then of its second
/// blocks and so on, and after them the values. The values of one block of 32 are groups of four,
/// the group that each of the sixteen rows has at the same place side by side (64 bytes; what the
/// byte dot products and AMX's tiles read at once). q8_0 keeps its bytes with 128 added, since
/// those instructions take one side without a sign. q4_0 keeps its bytes as they are: the low
/// nibbles of a quarter are its first sixteen elements' groups, the high ones the others'. bf16
/// weights have no scales, and their groups are pairs; their cols are a multiple of 32.
/// Rows that do not fill a panel follow as plain rows, so that a weight has the same size in every
/// layout.
namespace troupe::gpu::cpu {

constexpr int64_t panel_rows = 16;

/// Bytes of one row of `k` elements (q8_0, q4_0 or bf16), or a sixteenth of a panel.
int64_t block_row_bytes(dtype type, int64_t k);

/// Lays out `count` rows (1 .. panel_rows) of blocks as one panel; absent rows have scale 0.
void pack_panel(dtype type, const unsigned char* rows, int64_t count, int64_t k,
                unsigned char* panel);

/// Block `block` of one row of a panel as it was before.
void unpack_block(dtype type, const unsigned char* panel, int64_t row, int64_t block, int64_t k,
                  unsigned char* out);

} // namespace troupe::gpu::cpu
