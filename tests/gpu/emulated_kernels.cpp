#include "tests/gpu/emulated_kernels.hpp"

#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/body_amx.hpp"
#include "tests/gpu/tiles_emulated.hpp"

namespace troupe::gpu::cpu {

void emulated_linear_bf16(const panel_job& job, const tile_range& range) {
  linear_tile_pairs<emulated_tiles>(job, range);
}

void emulated_linear_q8_0(const panel_job& job, const tile_range& range) {
  linear_tile_bytes<emulated_tiles, q8_0_panel>(job, range);
}

void emulated_linear_q4_0(const panel_job& job, const tile_range& range) {
  linear_tile_bytes<emulated_tiles, q4_0_panel>(job, range);
}

} // namespace troupe::gpu::cpu
