#pragma once
#include <stdint.h>

/// Quantized blocks as floats and back, over the primitives of the simd/vec_*.hpp that was included
/// before. Plain loops compile to the vectors of their file's flags.
namespace troupe::gpu::cpu {
namespace {

inline float block_scale(const unsigned char* block) {
  float scale;
  store_f32_part(&scale, load_f16_part(block, 1), 1);
  return scale;
}

void expand_q8_0(const unsigned char* from, float* out, int64_t n) {
  for (int64_t k = 0; k < n; k += 32, from += 34, out += 32) {
    const float scale = block_scale(from);
    const auto* bytes = reinterpret_cast<const signed char*>(from + 2);
    for (int i = 0; i < 32; ++i)
      out[i] = scale * static_cast<float>(bytes[i]);
  }
}

void expand_q4_0(const unsigned char* from, float* out, int64_t n) {
  for (int64_t k = 0; k < n; k += 32, from += 18, out += 32) {
    const float scale = block_scale(from);
    for (int i = 0; i < 16; ++i) {
      const int byte = from[2 + i];
      out[i] = scale * static_cast<float>((byte & 15) - 8);
      out[16 + i] = scale * static_cast<float>((byte >> 4) - 8);
    }
  }
}

inline float extreme_of_block(const float* from) {
  vec top = zero(), no_number = zero();
  for (int i = 0; i < 32; i += lanes) {
    const vec x = load_f32(from + i);
    top = max(top, max(x, sub(zero(), x)));
    no_number = fma(x, zero(), no_number); // NaN where x is infinite or none
  }
  float parts[4];
  sum_lanes(no_number, zero(), zero(), zero(), parts);
  return parts[0] == 0 ? max_lane(top) : parts[0];
}

void extremes(const float* from, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 32)
    *out++ = extreme_of_block(from + i);
}

void levels(const float* from, const float* divisors, float low, float high, int8_t* out,
            int64_t n) {
  const vec least = splat(low), most = splat(high);
  for (int64_t k = 0; k < n; k += 32, ++divisors) {
    const vec divisor = splat(*divisors);
    for (int64_t i = k; i < k + 32; i += lanes) {
      const vec nearest_level = nearest(div(load_f32(from + i), divisor));
      store_bytes(out + i, to_int(min(max(nearest_level, least), most)));
    }
  }
}

} // namespace
} // namespace troupe::gpu::cpu
