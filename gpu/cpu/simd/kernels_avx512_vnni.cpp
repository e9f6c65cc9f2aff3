#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/body_panels.hpp"

namespace troupe::gpu::cpu {

const panel_function avx512_vnni_byte_panels[byte_panel_kinds] = {
    linear_panels<q8_0_panel>, linear_panels<q4_0_panel>, linear_panels<q4_1_panel>,
    linear_panels<q5_0_panel>, linear_panels<q5_1_panel>, linear_panels<q4_k_panel>,
    linear_panels<q5_k_panel>, linear_panels<q6_k_panel>,
};

} // namespace troupe::gpu::cpu
