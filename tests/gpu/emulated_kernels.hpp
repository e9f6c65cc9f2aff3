#pragma once
#include "gpu/cpu/kernels.hpp"

/// The AMX kernels over tile registers in plain code; they need AVX-512 with VNNI.
namespace troupe::gpu::cpu {

void emulated_linear_bf16(const panel_job& job, const tile_range& range);
void emulated_linear_q8_0(const panel_job& job, const tile_range& range);
void emulated_linear_q4_0(const panel_job& job, const tile_range& range);

} // namespace troupe::gpu::cpu
