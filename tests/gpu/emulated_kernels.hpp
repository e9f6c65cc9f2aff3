#pragma once
#include "gpu/cpu/kernels.hpp"

/// The AMX kernels over tile registers in plain code; they need AVX-512 with VNNI.
namespace troupe::gpu::cpu {

void emulated_linear_bf16(const panel_job& job, const tile_range& range);
extern const panel_function emulated_byte_panels[byte_panel_kinds];

} // namespace troupe::gpu::cpu
