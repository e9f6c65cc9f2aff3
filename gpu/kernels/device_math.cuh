#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "base/dtype.hpp"
#include "base/half.hpp"

/// What the kernels share. Everything runs on the device.
namespace troupe::gpu::kernels {

constexpr unsigned all_lanes = 0xffffffffu;
constexpr int warp_threads = 32;

/// Element `i` of an array of f32, f16 or bf16 that is aligned to its elements.
__device__ inline float load_element(const void* data, dtype type, int64_t i) {
  if (type == dtype::f32)
    return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return type == dtype::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

/// f16 bits -> float: exact.
__device__ inline float f16_value(uint16_t bits) {
#ifdef __CUDA_ARCH__
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
  return out;
#else
  return f16_to_float(bits);
#endif
}

/// Sums over the warp in one fixed tree; every lane gets the result.
__device__ inline float warp_sum(float value) {
  for (unsigned step = warp_threads / 2; step > 0; step /= 2)
    value += __shfl_xor_sync(all_lanes, value, step);
  return value;
}

__device__ inline float warp_max(float value) {
  for (unsigned step = warp_threads / 2; step > 0; step /= 2)
    value = fmaxf(value, __shfl_xor_sync(all_lanes, value, step));
  return value;
}

/// Two floats rounded to bf16, `low` in the low half.
__device__ inline uint32_t pack_bf16(float low, float high) {
#ifdef __CUDA_ARCH__
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
#else
  return float_to_bf16(low) | static_cast<uint32_t>(float_to_bf16(high)) << 16;
#endif
}

/// The last sequence that begins at or before `row`: where a row of a ragged batch belongs.
__device__ inline int64_t sequence_of(const int32_t* row_start, int64_t sequences, int64_t row) {
  int64_t low = 0, high = sequences;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (row_start[middle] <= row)
      low = middle;
    else
      high = middle;
  }
  return low;
}

} // namespace troupe::gpu::kernels
