#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

namespace troupe::gpu::kernels {

/// Queues one thread per block of 32 weights; the same bytes as the CPU gives. Does not wait.
cudaError_t launch_quantize(const quantize_args& args, cudaStream_t stream);

} // namespace troupe::gpu::kernels
