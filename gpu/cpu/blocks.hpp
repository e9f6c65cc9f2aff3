#pragma once
#include <cstdint>

#include "gpu/ops.hpp"

/// Blocks of quantized weights, plainly. Formats: see `dtype`.
namespace troupe::gpu::cpu {

/// Element `i` of a weight of any type that `linear` takes; exact.
float load_any(const void* data, dtype type, int64_t i);

/// One row of `quantize`. NaN and infinity come out as NaN or infinity somewhere in their block.
void quantize_row(const quantize_args& args, int64_t row);

} // namespace troupe::gpu::cpu
