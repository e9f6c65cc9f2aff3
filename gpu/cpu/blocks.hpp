#pragma once
#include <cstdint>

#include "gpu/ops.hpp"

/// Weights in blocks or other layouts, plainly. Formats: see `dtype` and base/blocks.hpp.
namespace troupe::gpu::cpu {

/// Row `row` of a weight of any type and layout that `linear` takes, as cols floats; exact. `out`
/// has room for whole blocks of 32 in panels.
void expand_row(const weight& w, int64_t row, float* out);

/// Element [row, col] of such a weight.
float load_any(const weight& w, int64_t row, int64_t col);

/// 32 floats as a block of q8_0 or q4_0, plainly: its scale fits the largest magnitude.
void quantize_block(dtype to, const float* x, unsigned char* out);

/// `quantize` for `count` rows from `row` on. Where the layout is panels, `row` begins a panel and
/// `count` is no more than a panel has. NaN and infinity come out as NaN or infinity somewhere in
/// their block. `scratch` has room for one panel.
void quantize_rows(const quantize_args& args, int64_t row, int64_t count, unsigned char* scratch);

} // namespace troupe::gpu::cpu
