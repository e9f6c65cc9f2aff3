#pragma once
#include "gpu/kernels/linear_operands.cuh"

/// The two kernels behind `launch_linear_tensor`.
namespace troupe::gpu::kernels {

/// Rows up to which the narrow kernel runs: it reads each weight once for all of them.
constexpr int64_t narrow_rows_max = 32;

/// Calls `launch` with how weights of that type are read.
template <class launcher>
cudaError_t with_weights(dtype type, const launcher& launch) {
  switch (type) {
  case dtype::q8_0:
    return launch(block_weights<dtype::q8_0>{});
  case dtype::q4_0:
    return launch(block_weights<dtype::q4_0>{});
  case dtype::q4_1:
    return launch(block_weights<dtype::q4_1>{});
  case dtype::q5_0:
    return launch(block_weights<dtype::q5_0>{});
  case dtype::q5_1:
    return launch(block_weights<dtype::q5_1>{});
  case dtype::q4_k:
    return launch(block_weights<dtype::q4_k>{});
  case dtype::q5_k:
    return launch(block_weights<dtype::q5_k>{});
  case dtype::q6_k:
    return launch(block_weights<dtype::q6_k>{});
  case dtype::f8_b128:
    return launch(block_weights<dtype::f8_b128>{});
  default:
    return launch(bf16_weights{});
  }
}

cudaError_t launch_linear_narrow(const linear_args& args, rounded_rows x, cudaStream_t stream);
cudaError_t launch_linear_wide(const linear_args& args, rounded_rows x, cudaStream_t stream);

} // namespace troupe::gpu::kernels
