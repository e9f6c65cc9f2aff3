#include "gpu/kernels/block_values.cuh"
#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr int warps = 8;
/// Rows of x that share one read of a weight row.
constexpr int rows_per_warp = 8;

/// What a lane adds to the sums of up to eight rows, `left` of which there are.
__device__ void add_elements(const linear_args& args, int64_t column, const float* x, int64_t left,
                             int lane, float (&sums)[rows_per_warp]) {
  const auto& w = args.w;
  for (int64_t k = lane; k < w.cols; k += warp_threads) {
    const float value = load_element(w.data, w.type, column * w.cols + k);
    for (int r = 0; r < rows_per_warp; ++r)
      if (r < left)
        sums[r] = fmaf(x[r * args.x_stride + k], value, sums[r]);
  }
}

/// The same for weights in blocks, of which a lane takes eight neighbours at a time.
__device__ void add_blocks(const linear_args& args, int64_t column, const float* x, int64_t left,
                           int lane, float (&sums)[rows_per_warp]) {
  const auto& w = args.w;
  for (int64_t k = lane * 8; k < w.cols; k += warp_threads * 8) {
    const auto from = values_of_eight(w.data, w.type, column * w.cols + k);
    for (int i = 0; i < 8; ++i) {
      const float value = from.value[i];
      for (int r = 0; r < rows_per_warp; ++r)
        if (r < left)
          sums[r] = fmaf(x[r * args.x_stride + k + i], value, sums[r]);
    }
  }
}

/// One warp owns one column of the output for up to eight rows; its lanes walk k side by side.
__global__ void linear_float_kernel(linear_args args) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const int64_t column = int64_t{blockIdx.x} * warps + static_cast<int>(threadIdx.x) / warp_threads;
  if (column >= args.w.rows)
    return;
  const int64_t first = int64_t{blockIdx.y} * rows_per_warp;
  float sums[rows_per_warp] = {};
  const float* x = args.x + first * args.x_stride;
  if (is_blocks(args.w.type))
    add_blocks(args, column, x, args.rows - first, lane, sums);
  else
    add_elements(args, column, x, args.rows - first, lane, sums);
  for (int r = 0; r < rows_per_warp; ++r) {
    float sum = warp_sum(sums[r]);
    if (lane != r || first + r >= args.rows)
      continue;
    if (args.bias.data != nullptr)
      sum += load_element(args.bias.data, args.bias.type, column);
    float& out = args.out[(first + r) * args.out_stride + column];
    out = args.accumulate ? out + sum : sum;
  }
}

/// Row tiles that one launch may have: the limit of a grid's second dimension.
constexpr int64_t tiles_max = 65535;

} // namespace

cudaError_t launch_linear_float(const linear_args& args, cudaStream_t stream) {
  auto part = args;
  for (int64_t done = 0; done < args.rows; done += part.rows) {
    part.rows =
        args.rows - done < tiles_max * rows_per_warp ? args.rows - done : tiles_max * rows_per_warp;
    part.x = args.x + done * args.x_stride;
    part.out = args.out + done * args.out_stride;
    const dim3 grid{blocks_for(args.w.rows, warps), blocks_for(part.rows, rows_per_warp), 1};
    const auto status = launch(linear_float_kernel, grid, warps * warp_threads, stream, part);
    if (status != cudaSuccess)
      return status;
  }
  return cudaSuccess;
}

} // namespace troupe::gpu::kernels
