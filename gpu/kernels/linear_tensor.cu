#include "gpu/kernels/linear_tensor.cuh"

#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr unsigned threads = 256;

int64_t rounded_stride(const weight& w) { return (w.cols + step_k - 1) / step_k * step_k; }

/// Rounds pairs of x to bf16, with zeros from the end of a row to its next multiple of `step_k`.
__global__ void round_rows_kernel(linear_args args, uint32_t* out, int64_t pairs_per_row) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const int64_t row = i / pairs_per_row, k = i % pairs_per_row * 2;
  if (row >= args.rows)
    return;
  const float* x = args.x + row * args.x_stride;
  out[i] = pack_bf16(k < args.w.cols ? x[k] : 0.0f, k + 1 < args.w.cols ? x[k + 1] : 0.0f);
}

} // namespace

bool tensor_cores_take(const weight& w) {
  return is_blocks(w.type) || (w.type == dtype::bf16 && w.cols % 8 == 0 &&
                               reinterpret_cast<uintptr_t>(w.data) % 16 == 0);
}

uint64_t linear_scratch_bytes(const linear_args& args) {
  return static_cast<uint64_t>(args.rows * rounded_stride(args.w)) * sizeof(uint16_t);
}

cudaError_t launch_linear_tensor(const linear_args& args, void* scratch, cudaStream_t stream) {
  const rounded_rows x{static_cast<const uint16_t*>(scratch), args.rows, rounded_stride(args.w)};
  const int64_t pairs = x.stride / 2;
  const auto status = launch(round_rows_kernel, {blocks_for(args.rows * pairs, threads)}, threads,
                             stream, args, static_cast<uint32_t*>(scratch), pairs);
  if (status != cudaSuccess)
    return status;
  return args.rows <= narrow_rows_max ? launch_linear_narrow(args, x, stream)
                                      : launch_linear_wide(args, x, stream);
}

} // namespace troupe::gpu::kernels
