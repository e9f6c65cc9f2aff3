#include "gpu/kernels/linear_tensor.cuh"

#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr unsigned threads = 256;

/// What is beyond the largest f16 becomes that; infinities and NaN stay.
__device__ uint32_t saturated_f16(float x) {
  return float_to_f16(isfinite(x) ? fminf(fmaxf(x, -65504.0f), 65504.0f) : x);
}

/// Rounds pairs of x to bf16, or f16, with zeros from the end of a row to its next multiple of
/// `step_k`.
template <dtype to>
__global__ void round_rows_kernel(linear_args args, uint32_t* out, int64_t pairs_per_row) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const int64_t row = i / pairs_per_row, k = i % pairs_per_row * 2;
  if (row >= args.rows)
    return;
  const float* x = args.x + row * args.x_stride;
  const float low = k < args.w.cols ? x[k] : 0.0f, high = k + 1 < args.w.cols ? x[k + 1] : 0.0f;
  out[i] = to == dtype::f16 ? saturated_f16(low) | saturated_f16(high) << 16 : pack_bf16(low, high);
}

} // namespace

int64_t rounded_stride(const weight& w) { return (w.cols + step_k - 1) / step_k * step_k; }

bool tensor_cores_take(const weight& w) {
  return is_blocks(w.type) || (w.type == dtype::bf16 && w.cols % 8 == 0 &&
                               reinterpret_cast<uintptr_t>(w.data) % 16 == 0);
}

uint64_t linear_scratch_bytes(const linear_args& args) {
  return static_cast<uint64_t>(args.rows * rounded_stride(args.w)) * sizeof(uint16_t);
}

cudaError_t launch_round_rows(const linear_args& args, dtype to, void* out, cudaStream_t stream) {
  const int64_t pairs = rounded_stride(args.w) / 2;
  const auto kernel =
      to == dtype::f16 ? round_rows_kernel<dtype::f16> : round_rows_kernel<dtype::bf16>;
  return launch(kernel, {blocks_for(args.rows * pairs, threads)}, threads, stream, args,
                static_cast<uint32_t*>(out), pairs);
}

cudaError_t launch_linear_tensor(const linear_args& args, void* scratch, cudaStream_t stream) {
  if (const auto status = launch_round_rows(args, dtype::bf16, scratch, stream);
      status != cudaSuccess)
    return status;
  const rounded_rows x{static_cast<const uint16_t*>(scratch), args.rows, rounded_stride(args.w)};
  return args.rows <= narrow_rows_max ? launch_linear_narrow(args, x, stream)
                                      : launch_linear_wide(args, x, stream);
}

} // namespace troupe::gpu::kernels
