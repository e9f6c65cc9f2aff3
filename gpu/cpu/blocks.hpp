#pragma once
#include <cstdint>

#include "gpu/ops.hpp"

/// Weights in blocks or other layouts, plainly. Formats: see `dtype`.
namespace troupe::gpu::cpu {

/// Element [row, col] of a weight of any type and layout that `linear` takes; exact.
float load_any(const weight& w, int64_t row, int64_t col);

/// 32 elements of any type that has layouts.
constexpr int64_t block_bytes_max = 64;

/// Elements 32 * block .. + 31 of a row of a weight of any layout (q8_0, q4_0 or bf16), as `dtype`
/// describes them.
void copy_block(const weight& w, int64_t row, int64_t block, unsigned char* out);

/// `quantize` for `count` rows from `row` on. Where the layout is panels, `row` begins a panel and
/// `count` is no more than a panel has. NaN and infinity come out as NaN or infinity somewhere in
/// their block. `scratch` has room for one panel.
void quantize_rows(const quantize_args& args, int64_t row, int64_t count, unsigned char* scratch);

} // namespace troupe::gpu::cpu
