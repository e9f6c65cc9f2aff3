#include "gpu/cpu/simd/vec_avx512.hpp"

#include "gpu/cpu/simd/body_table.hpp"

namespace troupe::gpu::cpu {

constexpr kernel_table avx512_kernels = make_table();

} // namespace troupe::gpu::cpu
