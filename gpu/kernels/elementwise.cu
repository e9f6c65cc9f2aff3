#include "gpu/kernels/elementwise.cuh"

#include "gpu/kernels/block_values.cuh"
#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/launch.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr unsigned threads = 256;

/// This thread's element of a matrix whose rows are `cols` wide; false past its end.
__device__ bool own_element(int64_t rows, int64_t cols, int64_t& row, int64_t& col) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  row = i / cols;
  col = i % cols;
  return row < rows;
}

__global__ void embedding_kernel(embedding_args args) {
  int64_t row, col;
  if (!own_element(args.rows, args.table.cols, row, col))
    return;
  const int64_t from = args.ids[row] * args.table.cols + col;
  args.out[row * args.table.cols + col] =
      load_element(args.table.data, args.table.type, from) * args.scale;
}

/// The same for a table in blocks, eight neighbours to a thread.
__global__ void embedding_blocks_kernel(embedding_args args) {
  int64_t row, piece;
  if (!own_element(args.rows, args.table.cols / 8, row, piece))
    return;
  const int64_t col = piece * 8;
  const auto from =
      values_of_eight(args.table.data, args.table.type, args.ids[row] * args.table.cols + col);
  for (int i = 0; i < 8; ++i)
    args.out[row * args.table.cols + col + i] = from.value[i] * args.scale;
}

__global__ void rope_kernel(rope_args args) {
  const int64_t half = args.rotary_dim / 2;
  int64_t row, pair;
  if (!own_element(args.rows, args.heads * half, row, pair))
    return;
  const int64_t d = pair % half;
  float* x = args.x + row * args.stride + pair / half * args.head_dim + d;
  const float cos = args.cos[row * half + d];
  const float sin = args.sin[row * half + d];
  const float first = x[0];
  const float second = x[half];
  x[0] = first * cos - second * sin;
  x[half] = second * cos + first * sin;
}

__device__ float activate(activation act, float x) {
  switch (act) {
  case activation::silu:
    return x / (1.0f + expf(-x));
  case activation::gelu:
    return 0.5f * x * erfcf(-x * 0.70710678f);
  case activation::gelu_tanh: {
    // 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)), which keeps its digits where u is very negative.
    const float u = 0.79788456f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * u));
  }
  case activation::relu:
    return x < 0.0f ? 0.0f : x; // a NaN stays one
  }
  return x;
}

__global__ void gated_activation_kernel(gated_activation_args args) {
  int64_t row, col;
  if (!own_element(args.rows, args.cols, row, col))
    return;
  args.out[row * args.out_stride + col] =
      activate(args.act, args.gate[row * args.gate_stride + col]) *
      args.up[row * args.up_stride + col];
}

__global__ void gather_rows_kernel(gather_rows_args args) {
  int64_t row, col;
  if (!own_element(args.rows, args.cols, row, col))
    return;
  args.out[row * args.cols + col] = args.x[args.index[row] * args.x_stride + col];
}

} // namespace

cudaError_t launch_embedding(const embedding_args& args, cudaStream_t stream) {
  if (is_blocks(args.table.type))
    return launch(embedding_blocks_kernel, {blocks_for(args.rows * args.table.cols / 8, threads)},
                  threads, stream, args);
  return launch(embedding_kernel, {blocks_for(args.rows * args.table.cols, threads)}, threads,
                stream, args);
}

cudaError_t launch_rope(const rope_args& args, cudaStream_t stream) {
  const int64_t pairs = args.rows * args.heads * (args.rotary_dim / 2);
  return launch(rope_kernel, {blocks_for(pairs, threads)}, threads, stream, args);
}

cudaError_t launch_gated_activation(const gated_activation_args& args, cudaStream_t stream) {
  return launch(gated_activation_kernel, {blocks_for(args.rows * args.cols, threads)}, threads,
                stream, args);
}

cudaError_t launch_gather_rows(const gather_rows_args& args, cudaStream_t stream) {
  return launch(gather_rows_kernel, {blocks_for(args.rows * args.cols, threads)}, threads, stream,
                args);
}

} // namespace troupe::gpu::kernels
