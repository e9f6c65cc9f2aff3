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

cudaError_t launch_add_bias(const linear_args& args, cudaStream_t stream) {
  return launch(add_bias_kernel, {blocks_for(args.rows * args.w.rows, threads)}, threads, stream,
                args);
}

} // namespace troupe::gpu::kernels
