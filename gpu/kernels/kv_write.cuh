#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

namespace troupe::gpu::kernels {

/// Stores keys and values in a cache of any type that the device keeps: f32, bf16, or i8 with a
/// scale for each token and head. Queues on `stream` and does not wait.
cudaError_t launch_kv_write(const kv_write_args& args, cudaStream_t stream);

} // namespace troupe::gpu::kernels
