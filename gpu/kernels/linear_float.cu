#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr int warps = 8;
/// Rows of x that share one read of a weight row.
constexpr int rows_per_warp = 8;

__device__ float load_weight(const weight& w, int64_t row, int64_t col) {
  if (!is_blocks(w.type))
    return load_element(w.data, w.type, row * w.cols + col);
  constexpr auto size = static_cast<int64_t>(block_elements);
  const auto* block =
      static_cast<const unsigned char*>(w.data) +
      (row * w.cols + col) / size * static_cast<int64_t>(bytes_of(w.type, block_elements));
  const float scale = f16_to_float(*reinterpret_cast<const uint16_t*>(block));
  const int64_t at = col % size;
  if (w.type == dtype::q8_0)
    return scale * static_cast<float>(static_cast<int8_t>(block[2 + at]));
  const unsigned byte = block[2 + at % (size / 2)];
  return scale * (static_cast<float>(at < size / 2 ? byte & 15 : byte >> 4) - 8.0f);
}

/// One warp owns one column of the output for up to eight rows; its lanes walk k side by side.
__global__ void linear_float_kernel(linear_args args) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const int64_t column = int64_t{blockIdx.x} * warps + static_cast<int>(threadIdx.x) / warp_threads;
  if (column >= args.w.rows)
    return;
  const int64_t first = int64_t{blockIdx.y} * rows_per_warp;
  float sums[rows_per_warp] = {};
  for (int64_t k = lane; k < args.w.cols; k += warp_threads) {
    const float w = load_weight(args.w, column, k);
    for (int r = 0; r < rows_per_warp; ++r)
      if (first + r < args.rows)
        sums[r] = fmaf(args.x[(first + r) * args.x_stride + k], w, sums[r]);
  }
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
