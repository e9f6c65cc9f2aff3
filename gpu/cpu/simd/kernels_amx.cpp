#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/tiles_amx.hpp"

#include "gpu/cpu/simd/body_amx.hpp"

namespace troupe::gpu::cpu {

void amx_linear_bf16(const panel_job& job, const tile_range& range) {
  linear_tile_pairs<amx_tiles>(job, range);
}

void amx_linear_q8_0(const panel_job& job, const tile_range& range) {
  linear_tile_bytes<amx_tiles, q8_0_panel>(job, range);
}

void amx_linear_q4_0(const panel_job& job, const tile_range& range) {
  linear_tile_bytes<amx_tiles, q4_0_panel>(job, range);
}

} // namespace troupe::gpu::cpu
