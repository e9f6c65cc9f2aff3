#pragma once
#include <stdint.h>

/// Quantized blocks as floats, over the primitives of the simd/vec_*.hpp that was included before.
/// The loops are plain: each compiles to the vectors of its file's flags.
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

} // namespace
} // namespace troupe::gpu::cpu
