#include "gpu/kernels/rms_norm.cuh"

#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/launch.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr int block_threads = 256;
/// Wider groups get a block of their own. Depends on the shape alone, as a row's bits must.
constexpr int64_t warp_cols_max = 512;

/// `team` threads own one group: a warp or the whole block.
template <int team>
__global__ void rms_norm_kernel(rms_norm_args args) {
  const int member = static_cast<int>(threadIdx.x) % team;
  const int64_t group =
      int64_t{blockIdx.x} * (block_threads / team) + static_cast<int>(threadIdx.x) / team;
  if (group >= args.rows * args.groups)
    return;
  const int64_t row = group / args.groups, within = group % args.groups * args.cols;
  const float* x = args.x + row * args.x_stride + within;
  float* out = args.out + row * args.out_stride + within;
  float squares = 0;
  for (int64_t c = member; c < args.cols; c += team)
    squares += x[c] * x[c];
  squares = warp_sum(squares);
  if constexpr (team > warp_threads) {
    __shared__ float of_warps[team / warp_threads];
    if (member % warp_threads == 0)
      of_warps[member / warp_threads] = squares;
    __syncthreads();
    squares = 0;
    for (const float part : of_warps)
      squares += part;
  }
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(args.cols) + args.eps);
  for (int64_t c = member; c < args.cols; c += team)
    out[c] = x[c] * inverse * (load_element(args.gain.data, args.gain.type, c) + args.gain_offset);
}

} // namespace

cudaError_t launch_rms_norm(const rms_norm_args& args, cudaStream_t stream) {
  const int64_t groups = args.rows * args.groups;
  if (args.cols > warp_cols_max)
    return launch(rms_norm_kernel<block_threads>, {static_cast<unsigned>(groups)}, block_threads,
                  stream, args);
  return launch(rms_norm_kernel<warp_threads>, {blocks_for(groups, block_threads / warp_threads)},
                block_threads, stream, args);
}

} // namespace troupe::gpu::kernels
