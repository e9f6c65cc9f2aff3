#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear_tensor.cuh"
#include "gpu/kernels/mma.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr int columns = 16; ///< of the output (rows of w) that a block owns
constexpr int tile_rows = 8;

/// A block owns 16 columns for up to tiles * 8 rows. Its warps take the parts of k: each reads its
/// share of the weights once, and every tile of rows uses it from registers.
template <class weights, int tiles>
__global__ void linear_narrow_kernel(linear_args args, rounded_rows x) {
  constexpr int rows = tiles * tile_rows;
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const int part = static_cast<int>(threadIdx.x) / warp_threads;
  const int g = lane / 4, t = lane % 4;
  const int64_t first = int64_t{blockIdx.x} * columns;
  const int64_t begin = part * steps_per_part(args.w);
  const int64_t end = min(begin + steps_per_part(args.w), steps_of(args.w));
  float sums[tiles][4] = {};
#pragma unroll 4
  for (int64_t step = begin; step < end; ++step) {
    const uint4 low = weights::load(args.w, first + g, step, t);
    const uint4 high = weights::load(args.w, first + g + 8, step, t);
    for (int tile = 0; tile < tiles; ++tile)
      mma_bf16_k32(sums[tile], low, high, x.load(tile * tile_rows + g, step, t));
  }
  __shared__ float of_parts[k_parts][rows][columns];
  for (int tile = 0; tile < tiles; ++tile)
    for (int i = 0; i < 4; ++i)
      of_parts[part][tile * tile_rows + 2 * t + i % 2][g + i / 2 * 8] = sums[tile][i];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < rows * columns; i += k_parts * warp_threads) {
    const int row = i / columns;
    const int64_t column = first + i % columns;
    if (row >= args.rows || column >= args.w.rows)
      continue;
    float total = 0;
    for (int p = 0; p < k_parts; ++p)
      total += of_parts[p][row][i % columns];
    finish_linear(args, row, column, total);
  }
}

template <class weights>
cudaError_t launch_for(const linear_args& args, rounded_rows x, cudaStream_t stream) {
  const dim3 grid{blocks_for(args.w.rows, columns), 1, 1};
  const unsigned threads = k_parts * warp_threads;
  if (args.rows <= tile_rows)
    return launch(linear_narrow_kernel<weights, 1>, grid, threads, stream, args, x);
  if (args.rows <= 2 * tile_rows)
    return launch(linear_narrow_kernel<weights, 2>, grid, threads, stream, args, x);
  return launch(linear_narrow_kernel<weights, 4>, grid, threads, stream, args, x);
}

} // namespace

cudaError_t launch_linear_narrow(const linear_args& args, rounded_rows x, cudaStream_t stream) {
  return with_weights(args.w.type,
                      [&](auto weights) { return launch_for<decltype(weights)>(args, x, stream); });
}

} // namespace troupe::gpu::kernels
