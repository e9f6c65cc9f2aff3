#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/tiles_amx.hpp"

#include "gpu/cpu/simd/body_amx.hpp"

namespace troupe::gpu::cpu {

void amx_linear_bf16(const panel_job& job, const tile_range& range) {
  linear_tile_pairs<amx_tiles>(job, range);
}

const panel_function amx_byte_panels[byte_panel_kinds] = {
    linear_tile_bytes<amx_tiles, q8_0_panel>, linear_tile_bytes<amx_tiles, q4_0_panel>,
    linear_tile_bytes<amx_tiles, q4_1_panel>, linear_tile_bytes<amx_tiles, q5_0_panel>,
    linear_tile_bytes<amx_tiles, q5_1_panel>, linear_tile_bytes<amx_tiles, q4_k_panel>,
    linear_tile_bytes<amx_tiles, q5_k_panel>, linear_tile_bytes<amx_tiles, q6_k_panel>,
};

} // namespace troupe::gpu::cpu
