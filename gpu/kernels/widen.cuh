#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

/// What a product of a library needs around it. Everything queues on `stream` and does not wait.
namespace troupe::gpu::kernels {

/// Rows first .. first + rows - 1 of a weight in blocks, as bf16, one after the other at `out`: the
/// values that `launch_linear_tensor` multiplies. `out` is aligned to 16 bytes.
cudaError_t launch_widen(const weight& w, int64_t first, int64_t rows, uint16_t* out,
                         cudaStream_t stream);

/// out[i, :] += bias, for the columns of `args.w`; `args.bias` is not empty.
cudaError_t launch_add_bias(const linear_args& args, cudaStream_t stream);

} // namespace troupe::gpu::kernels
