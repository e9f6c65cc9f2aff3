#include "gpu/cpu/simd/vec_portable.hpp"

#include "gpu/cpu/simd/body_table.hpp"

namespace troupe::gpu::cpu {

constexpr kernel_table portable_kernels = make_table();

} // namespace troupe::gpu::cpu
