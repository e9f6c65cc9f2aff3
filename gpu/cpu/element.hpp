#pragma once
#include <cstring>

#include "base/dtype.hpp"
#include "base/half.hpp"

namespace troupe::gpu::cpu {

/// Element `i` of a float array of any alignment, as a float; exact. `type` is f32, f16 or bf16.
inline float load_element(const void* data, dtype type, int64_t i) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  if (type == dtype::f32) {
    float value;
    std::memcpy(&value, bytes + i * 4, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + i * 2, sizeof bits);
  return type == dtype::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

/// Rounds to the nearest value of `type` (f32, f16 or bf16).
inline void store_element(void* data, dtype type, int64_t i, float value) {
  auto* bytes = static_cast<unsigned char*>(data);
  if (type == dtype::f32) {
    std::memcpy(bytes + i * 4, &value, sizeof value);
    return;
  }
  const uint16_t bits = type == dtype::bf16 ? float_to_bf16(value) : float_to_f16(value);
  std::memcpy(bytes + i * 2, &bits, sizeof bits);
}

} // namespace troupe::gpu::cpu
