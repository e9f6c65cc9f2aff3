#include "gpu/kernels/probe.cuh"

#include <algorithm>

#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/mma.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr unsigned threads = 256;
constexpr int reads_at_once = 4;
constexpr int product_chains = 8; ///< independent sums of a warp: more than the pipeline is deep
constexpr int blocks_per_processor = 8;

/// Every thread has four 16-byte loads under way.
__global__ void read_probe_kernel(const uint4* from, int64_t pieces, uint32_t* sink) {
  const int64_t stride = int64_t{gridDim.x} * threads;
  uint32_t sum = 0;
  for (int64_t at = int64_t{blockIdx.x} * threads + threadIdx.x; at < pieces;
       at += stride * reads_at_once) {
#pragma unroll
    for (int i = 0; i < reads_at_once; ++i)
      if (const int64_t own = at + i * stride; own < pieces) {
        const uint4 piece = from[own];
        sum ^= piece.x ^ piece.y ^ piece.z ^ piece.w;
      }
  }
  if (sum == 0x9e3779b9u)
    *sink = sum;
}

__global__ void product_probe_kernel(int64_t steps, float* sink) {
  float sums[product_chains][4] = {};
  const uint32_t one = 0x3f803f80u + (threadIdx.x & 1); // two bf16
  for (int64_t step = 0; step < steps; ++step) {
#pragma unroll
    for (auto& sum : sums)
      mma_bf16(sum, one, one, one, one, one, one);
  }
  float total = 0;
  for (const auto& sum : sums)
    total += sum[0] + sum[1] + sum[2] + sum[3];
  if (total == -1.0f)
    *sink = total;
}

__global__ void fill_probe_kernel(uint16_t* out, int64_t count, uint32_t seed) {
  const int64_t stride = int64_t{gridDim.x} * threads;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < count; i += stride) {
    uint32_t word = (static_cast<uint32_t>(i) + seed) * 2654435761u;
    word ^= word >> 15;
    // The sign and the mantissa vary, the exponent is that of 1/64.
    out[i] = static_cast<uint16_t>((word & 0x807fu) | 0x3c80u);
  }
}

} // namespace

cudaError_t launch_read_probe(const void* from, uint64_t bytes, uint32_t* sink, int processors,
                              cudaStream_t stream) {
  return launch(read_probe_kernel, {static_cast<unsigned>(processors * blocks_per_processor)},
                threads, stream, static_cast<const uint4*>(from),
                static_cast<int64_t>(bytes / sizeof(uint4)), sink);
}

cudaError_t launch_product_probe(int64_t steps, int blocks, float* sink, cudaStream_t stream) {
  return launch(product_probe_kernel, {static_cast<unsigned>(blocks)}, threads, stream, steps,
                sink);
}

double product_probe_ops(int64_t steps, int blocks) {
  constexpr double ops_of_one = 2.0 * 16 * 8 * 16;
  return ops_of_one * product_chains * (threads / warp_threads) * static_cast<double>(steps) *
         blocks;
}

cudaError_t launch_fill_probe(uint16_t* out, int64_t count, uint32_t seed, cudaStream_t stream) {
  constexpr int64_t most = 4096;
  const auto blocks = static_cast<int64_t>(blocks_for(count, threads));
  return launch(fill_probe_kernel, {static_cast<unsigned>(std::min(blocks, most))}, threads, stream,
                out, count, seed);
}

} // namespace troupe::gpu::kernels
