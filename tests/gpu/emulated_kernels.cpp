#include "tests/gpu/emulated_kernels.hpp"

#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/body_amx.hpp"
#include "tests/gpu/tiles_emulated.hpp"

namespace troupe::gpu::cpu {

void emulated_linear_bf16(const panel_job& job, const tile_range& range) {
  linear_tile_pairs<emulated_tiles>(job, range);
}

const panel_function emulated_byte_panels[byte_panel_kinds] = {
    linear_tile_bytes<emulated_tiles, q8_0_panel>, linear_tile_bytes<emulated_tiles, q4_0_panel>,
    linear_tile_bytes<emulated_tiles, q4_1_panel>, linear_tile_bytes<emulated_tiles, q5_0_panel>,
    linear_tile_bytes<emulated_tiles, q5_1_panel>, linear_tile_bytes<emulated_tiles, q4_k_panel>,
    linear_tile_bytes<emulated_tiles, q5_k_panel>, linear_tile_bytes<emulated_tiles, q6_k_panel>,
};

} // namespace troupe::gpu::cpu
