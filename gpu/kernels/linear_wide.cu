#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear_tensor.cuh"
#include "gpu/kernels/mma.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr int tile = 128; ///< columns and rows of the output that a block owns
constexpr int block_threads = 256;
constexpr int loads = tile * 4 / block_threads; ///< 16-byte pieces per thread, operand and step
constexpr int warp_columns = 64, warp_rows = 32;
constexpr int column_tiles = warp_columns / 16, row_tiles = warp_rows / 8;

/// One step of both operands: four 16-byte pieces per column or row. Eight lanes that read two
/// rows' pieces touch 128 bytes in a row, so no two of them meet in a bank.
struct staged {
  uint4 w[tile][4];
  uint4 x[tile][4];
};

/// One warp's 64 x 32 corner of a block's tile: sums of the part of k under way, and of those done.
struct corner {
  float part[column_tiles][row_tiles][4] = {};
  float total[column_tiles][row_tiles][4] = {};

  __device__ void step(const staged& from, int column, int row, int g, int t) {
    uint4 x[row_tiles];
#pragma unroll
    for (int j = 0; j < row_tiles; ++j)
      x[j] = from.x[row + j * 8 + g][t];
#pragma unroll
    for (int i = 0; i < column_tiles; ++i) {
      const uint4 low = from.w[column + i * 16 + g][t];
      const uint4 high = from.w[column + i * 16 + g + 8][t];
#pragma unroll
      for (int j = 0; j < row_tiles; ++j)
        mma_bf16_k32(part[i][j], low, high, x[j]);
    }
  }

  __device__ void end_part() {
#pragma unroll
    for (int i = 0; i < column_tiles; ++i)
#pragma unroll
      for (int j = 0; j < row_tiles; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          total[i][j][e] += part[i][j][e];
          part[i][j][e] = 0;
        }
  }

  /// Unrolled as all loops here: an index that is known only at run time would put the sums into
  /// memory.
  __device__ void store(const linear_args& args, int64_t column, int64_t row, int g, int t) const {
#pragma unroll
    for (int i = 0; i < column_tiles; ++i)
#pragma unroll
      for (int j = 0; j < row_tiles; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int64_t c = column + i * 16 + g + e / 2 * 8;
          const int64_t r = row + j * 8 + 2 * t + e % 2;
          if (c < args.w.rows && r < args.rows)
            finish_linear(args, r, c, total[i][j][e]);
        }
  }
};

/// A block owns 128 columns of 128 rows. While a step is multiplied from shared memory, the next
/// one is on its way into registers.
template <class weights>
__global__ void __launch_bounds__(block_threads)
    linear_wide_kernel(linear_args args, rounded_rows x) {
  __shared__ staged stages[2];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % warp_threads, warp = thread / warp_threads;
  const int g = lane / 4, t = lane % 4;
  const int column = warp % 2 * warp_columns, row = warp / 2 * warp_rows;
  const int64_t first_column = int64_t{blockIdx.x} * tile, first_row = int64_t{blockIdx.y} * tile;
  const int64_t steps = steps_of(args.w), part_steps = steps_per_part(args.w);
  uint4 next_w[loads], next_x[loads];
  const auto fetch = [&](int64_t step) {
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      const int piece = thread + i * block_threads;
      next_w[i] = weights::load(args.w, first_column + piece / 4, step, piece % 4);
      next_x[i] = x.load(first_row + piece / 4, step, piece % 4);
    }
  };
  const auto keep = [&](staged& to) {
#pragma unroll
    for (int i = 0; i < loads; ++i) {
      const int piece = thread + i * block_threads;
      to.w[piece / 4][piece % 4] = next_w[i];
      to.x[piece / 4][piece % 4] = next_x[i];
    }
  };
  corner own;
  fetch(0);
  keep(stages[0]);
  __syncthreads();
  int64_t left = part_steps;
  for (int64_t step = 0; step < steps; ++step) {
    if (step + 1 < steps)
      fetch(step + 1);
    own.step(stages[step % 2], column, row, g, t);
    if (--left == 0) {
      own.end_part();
      left = part_steps;
    }
    if (step + 1 < steps)
      keep(stages[(step + 1) % 2]);
    __syncthreads();
  }
  own.end_part();
  own.store(args, first_column + column, first_row + row, g, t);
}

template <class weights>
cudaError_t launch_for(const linear_args& args, rounded_rows x, cudaStream_t stream) {
  const dim3 grid{blocks_for(args.w.rows, tile), blocks_for(args.rows, tile), 1};
  return launch(linear_wide_kernel<weights>, grid, block_threads, stream, args, x);
}

} // namespace

cudaError_t launch_linear_wide(const linear_args& args, rounded_rows x, cudaStream_t stream) {
  return with_weights(args.w.type,
                      [&](auto weights) { return launch_for<decltype(weights)>(args, x, stream); });
}

} // namespace troupe::gpu::kernels
