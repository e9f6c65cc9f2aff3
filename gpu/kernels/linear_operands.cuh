#pragma once
#include "gpu/kernels/block_values.cuh"
#include "gpu/kernels/device_math.cuh"
#include "gpu/ops.hpp"

/// How the tensor-core kernels of `linear` read their operands: eight neighbours in k at a time, as
/// bf16, which is what `mma_bf16_k32` takes. k goes in steps of 32; thread t of four takes the
/// eight elements from 8t on. What lies past a row's end, or past the last row, reads as zero.
namespace troupe::gpu::kernels {

constexpr int64_t step_k = 32;

/// The order of every sum: k is cut into this many parts, each part is added up from its first
/// step to its last, and the parts are added in their order. The kernel for few rows gives each
/// part to a warp, so that one row alone keeps the memory busy.
constexpr int k_parts = 8;

__device__ inline int64_t steps_of(const weight& w) { return (w.cols + step_k - 1) / step_k; }
__device__ inline int64_t steps_per_part(const weight& w) {
  return (steps_of(w) + k_parts - 1) / k_parts;
}

__device__ inline uint4 zeros() { return uint4{0, 0, 0, 0}; }

struct bf16_weights {
  __device__ static uint4 load(const weight& w, int64_t row, int64_t step, int t) {
    const int64_t k = step * step_k + t * 8;
    if (row >= w.rows || k >= w.cols)
      return zeros();
    return *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(w.data) + row * w.cols + k);
  }
};

__device__ inline uint4 pack_eight(const float (&v)[8]) {
  return {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]),
          pack_bf16(v[6], v[7])};
}

/// A step is one group of 32. Whole numbers become bf16 by one rounding, that of the value.
template <dtype type>
struct block_weights {
  __device__ static uint4 load(const weight& w, int64_t row, int64_t step, int t) {
    if (row >= w.rows || step * step_k >= w.cols)
      return zeros();
    constexpr int steps = layout_of(type).elements / step_k; // of a block
    const auto at = static_cast<int>(step);
    const int64_t row_bytes = w.cols / layout_of(type).elements * layout_of(type).bytes;
    const auto* block = static_cast<const unsigned char*>(w.data) + row * row_bytes +
                        int64_t{at / steps} * layout_of(type).bytes;
    const auto from = block_format<type>::read(block, at % steps, t);
    float v[8];
    for (int i = 0; i < 8; ++i)
      v[i] = from.fused_value(i);
    return pack_eight(v);
  }
};

/// Rows of x as bf16, `stride` elements apart (a multiple of `step_k`, zeros behind the end).
struct rounded_rows {
  const uint16_t* data;
  int64_t rows;
  int64_t stride;

  __device__ uint4 load(int64_t row, int64_t step, int t) const {
    if (row >= rows)
      return zeros();
    return *reinterpret_cast<const uint4*>(data + row * stride + step * step_k + t * 8);
  }
};

/// Adds bias and what is there already, as `linear_args` says.
__device__ inline void finish_linear(const linear_args& args, int64_t row, int64_t column,
                                     float sum) {
  if (args.bias.data != nullptr)
    sum += load_element(args.bias.data, args.bias.type, column);
  float& out = args.out[row * args.out_stride + column];
  out = args.accumulate ? out + sum : sum;
}

} // namespace troupe::gpu::kernels
