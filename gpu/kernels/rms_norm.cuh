#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

namespace troupe::gpu::kernels {

/// Queues one warp, or for wide groups one block, per group of a row; does not wait.
cudaError_t launch_rms_norm(const rms_norm_args& args, cudaStream_t stream);

} // namespace troupe::gpu::kernels
