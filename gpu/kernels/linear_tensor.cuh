#pragma once
#include "gpu/kernels/linear_operands.cuh"

/// The two kernels behind `launch_linear_tensor`.
namespace troupe::gpu::kernels {

/// Rows up to which the narrow kernel runs: it reads each weight once for all of them.
constexpr int64_t narrow_rows_max = 32;

cudaError_t launch_linear_narrow(const linear_args& args, rounded_rows x, cudaStream_t stream);
cudaError_t launch_linear_wide(const linear_args& args, rounded_rows x, cudaStream_t stream);

} // namespace troupe::gpu::kernels
