#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

/// Launchers of the ops that touch each element once. Each queues on `stream` and does not wait.
namespace troupe::gpu::kernels {

cudaError_t launch_embedding(const embedding_args& args, cudaStream_t stream);
cudaError_t launch_rope(const rope_args& args, cudaStream_t stream);
cudaError_t launch_gated_activation(const gated_activation_args& args, cudaStream_t stream);
cudaError_t launch_gather_rows(const gather_rows_args& args, cudaStream_t stream);

} // namespace troupe::gpu::kernels
