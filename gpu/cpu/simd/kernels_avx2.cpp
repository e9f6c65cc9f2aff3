#include "gpu/cpu/simd/vec_avx2.hpp"

#include "gpu/cpu/simd/body_table.hpp"

namespace troupe::gpu::cpu {

constexpr kernel_table avx2_kernels = make_table();

} // namespace troupe::gpu::cpu
