#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

/// `linear` in three kernels. Which one runs depends on the weight and the mode, and among the
/// tensor-core kernels on the rows; those two add in the same order, so a row's bits never depend
/// on how many rows there are.
namespace troupe::gpu::kernels {

/// Whether the tensor cores take this weight: bf16 or blocks, rows of whole 16-byte pieces.
bool tensor_cores_take(const weight& w);

/// Elements from one rounded row of x to the next.
int64_t rounded_stride(const weight& w);

/// Bytes of memory that `launch_linear_tensor` needs for a call: x rounded to bf16.
uint64_t linear_scratch_bytes(const linear_args& args);

/// x rounded to `to`, bf16 or f16 (what is beyond the largest f16 becomes that), in
/// `linear_scratch_bytes`: rows `rounded_stride` apart, zeros behind their ends. Queues on
/// `stream`.
cudaError_t launch_round_rows(const linear_args& args, dtype to, void* out, cudaStream_t stream);

/// x is rounded to bf16, weights in blocks are too, sums are in float. `scratch` has what
/// `linear_scratch_bytes` asks for, aligned to 16 bytes. Queues on `stream`, does not wait.
cudaError_t launch_linear_tensor(const linear_args& args, void* scratch, cudaStream_t stream);

/// Every product and sum in float, for every type of weight.
cudaError_t launch_linear_float(const linear_args& args, cudaStream_t stream);

} // namespace troupe::gpu::kernels
