#include "gpu/kernels/quantize.cuh"

#include "gpu/kernels/block_values.cuh"
#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/launch.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr unsigned threads = 128;
constexpr int size = static_cast<int>(block_elements);

struct block_of_floats {
  float x[size];

  __device__ void load(const weight& w, int64_t first) {
    if (!is_blocks(w.type)) {
      for (int i = 0; i < size; ++i)
        x[i] = load_element(w.data, w.type, first + i);
      return;
    }
    for (int i = 0; i < size; i += 8) {
      const auto from = values_of_eight(w.data, w.type, first + i);
      for (int j = 0; j < 8; ++j)
        x[i + j] = from.value[j];
    }
  }

  /// The value of the largest magnitude; NaN if there is one.
  __device__ float extreme() const {
    float out = 0;
    for (int i = 0; i < size; ++i) {
      if (isnan(x[i]))
        return x[i];
      if (fabsf(x[i]) > fabsf(out))
        out = x[i];
    }
    return out;
  }
};

/// x / scale rounded to the nearest step, or 0 where the block has no scale to speak of.
__device__ float steps(float x, float scale, float low, float high) {
  if (!isfinite(scale))
    return 1;
  return scale == 0 ? 0 : fminf(fmaxf(rintf(x / scale), low), high);
}

/// A block's bytes begin at an even address, not at a multiple of four.
__device__ float store_scale(unsigned char* to, float scale) {
  const uint16_t bits = float_to_f16(scale);
  *reinterpret_cast<uint16_t*>(to) = bits;
  return f16_to_float(bits);
}

__device__ void quantize_q8_0(const block_of_floats& block, unsigned char* to) {
  const float scale = store_scale(to, fabsf(block.extreme()) / 127);
  for (int i = 0; i < size; ++i)
    to[2 + i] =
        static_cast<unsigned char>(static_cast<int8_t>(steps(block.x[i], scale, -127, 127)));
}

/// The scale's sign is chosen so that the extreme is -8, the end that has one step more.
__device__ void quantize_q4_0(const block_of_floats& block, unsigned char* to) {
  const float scale = store_scale(to, block.extreme() / -8);
  for (int i = 0; i < size / 2; ++i) {
    const auto low = static_cast<unsigned>(steps(block.x[i], scale, -8, 7) + 8);
    const auto high = static_cast<unsigned>(steps(block.x[i + size / 2], scale, -8, 7) + 8);
    to[2 + i] = static_cast<unsigned char>(low | high << 4);
  }
}

__global__ void quantize_kernel(quantize_args args, int64_t blocks) {
  const int64_t index = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (index >= blocks)
    return;
  block_of_floats block;
  block.load(args.w, index * size);
  auto* to = static_cast<unsigned char*>(args.out) +
             bytes_of(args.to, block_elements) * static_cast<uint64_t>(index);
  if (args.to == dtype::q8_0)
    quantize_q8_0(block, to);
  else
    quantize_q4_0(block, to);
}

} // namespace

cudaError_t launch_quantize(const quantize_args& args, cudaStream_t stream) {
  const int64_t blocks = args.w.rows * (args.w.cols / size);
  return launch(quantize_kernel, {blocks_for(blocks, threads)}, threads, stream, args, blocks);
}

} // namespace troupe::gpu::kernels
