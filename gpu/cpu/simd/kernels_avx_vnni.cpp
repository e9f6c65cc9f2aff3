#include "gpu/cpu/simd/vec_avx2.hpp"

#include "gpu/cpu/simd/body_panels.hpp"

namespace troupe::gpu::cpu {

void avx_vnni_linear_q8_0(const panel_job& job, const tile_range& range) {
  linear_panels<q8_0_panel>(job, range);
}

void avx_vnni_linear_q4_0(const panel_job& job, const tile_range& range) {
  linear_panels<q4_0_panel>(job, range);
}

} // namespace troupe::gpu::cpu
