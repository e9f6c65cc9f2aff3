#include "gpu/kernels/widen.cuh"

#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear_tensor.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr unsigned threads = 256;

/// A thread owns eight neighbours.
template <class weights>
__global__ void widen_kernel(weight w, int64_t first, int64_t rows, uint4* out) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const int64_t row = i / (w.cols / 8), piece = i % (w.cols / 8);
  if (row < rows)
    out[i] = weights::load(w, first + row, piece / 4, static_cast<int>(piece % 4));
}

/// A warp owns columns that share a scale, a thread four of them.
__global__ void round_f8_kernel(linear_args args, uint32_t* codes, float* scales) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const int64_t scales_per_row = args.w.cols / f8_scaled, piece = i / warp_threads;
  const int64_t row = piece / scales_per_row, at = piece % scales_per_row;
  if (row >= args.rows)
    return;
  const float* x = args.x + row * args.x_stride + at * f8_scaled + i % warp_threads * 4;
  float largest = 0;
  for (int j = 0; j < 4; ++j)
    largest = fmaxf(largest, fabsf(x[j]));
  // A subnormal scale, or none, would make numbers of many bits, or NaN.
  const float scale = fmaxf(warp_max(largest) / 448.0f, 0x1p-126f);
  uint32_t four = 0;
  for (int j = 0; j < 4; ++j)
    four |= static_cast<uint32_t>(float_to_f8_e4m3(x[j] / scale)) << j * 8;
  codes[i] = four;
  if (i % warp_threads == 0)
    scales[at * args.rows + row] = scale;
}

/// A thread owns four neighbours.
__global__ void split_f8_kernel(weight w, int64_t first, int64_t rows, uint32_t* codes,
                                float* scales) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const int64_t scales_per_row = w.cols / f8_scaled, piece = i / warp_threads;
  const int64_t row = piece / scales_per_row, at = piece % scales_per_row;
  if (row >= rows)
    return;
  const auto* block = static_cast<const unsigned char*>(w.data) +
                      (first * scales_per_row + piece) * layout_of(dtype::f8_b128).bytes;
  codes[i] = load_u32(block + sizeof(float) + i % warp_threads * 4);
  if (i % warp_threads == 0)
    scales[at * rows + row] = *reinterpret_cast<const float*>(block);
}

__global__ void add_bias_kernel(linear_args args) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const int64_t row = i / args.w.rows, column = i % args.w.rows;
  if (row < args.rows)
    args.out[row * args.out_stride + column] +=
        load_element(args.bias.data, args.bias.type, column);
}

} // namespace

cudaError_t launch_widen(const weight& w, int64_t first, int64_t rows, uint16_t* out,
                         cudaStream_t stream) {
  return with_weights(w.type, [&](auto weights) {
    return launch(widen_kernel<decltype(weights)>, {blocks_for(rows * (w.cols / 8), threads)},
                  threads, stream, w, first, rows, reinterpret_cast<uint4*>(out));
  });
}

cudaError_t launch_round_f8(const linear_args& args, void* codes, float* scales,
                            cudaStream_t stream) {
  return launch(round_f8_kernel, {blocks_for(args.rows * (args.w.cols / 4), threads)}, threads,
                stream, args, static_cast<uint32_t*>(codes), scales);
}

cudaError_t launch_split_f8(const weight& w, int64_t first, int64_t rows, void* codes,
                            float* scales, cudaStream_t stream) {
  return launch(split_f8_kernel, {blocks_for(rows * (w.cols / 4), threads)}, threads, stream, w,
                first, rows, static_cast<uint32_t*>(codes), scales);
}

cudaError_t launch_add_bias(const linear_args& args, cudaStream_t stream) {
  return launch(add_bias_kernel, {blocks_for(args.rows * args.w.rows, threads)}, threads, stream,
                args);
}

} // namespace troupe::gpu::kernels
