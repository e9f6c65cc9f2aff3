#pragma once
#include <bit>
#include <cstdint>

namespace troupe {

/// bfloat16 bits -> float: exact.
constexpr float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// float -> bfloat16 bits, round to nearest even; a NaN stays a (quiet) NaN.
constexpr uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// IEEE binary16 bits -> float: exact, subnormals included.
constexpr float f16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu)
    return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  // Subnormal: mantissa * 2^-24 is exact in float.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

/// float -> IEEE binary16 bits, round to nearest even; overflow becomes infinity.
constexpr uint16_t float_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) // 65520 and above round to infinity
    return sign | 0x7c00u;
  if (magnitude < 0x38800000u) { // below 2^-14: subnormal or zero
    if (magnitude < 0x33000000u)
      return sign;
    const uint32_t shift = 126u - (magnitude >> 23); // 14..24
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const uint32_t half = 1u << (shift - 1);
    const uint32_t rest = mantissa & ((1u << shift) - 1);
    uint32_t result = mantissa >> shift;
    if (rest > half || (rest == half && (result & 1u)))
      ++result;
    return static_cast<uint16_t>(sign | result);
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

/// An 8-bit float (1, 4 and 3 bits; no infinity, all ones is NaN) -> float: exact.
constexpr float f8_e4m3_to_float(uint8_t bits) {
  if ((bits & 0x7fu) == 0x7fu)
    return std::bit_cast<float>(0x7fc00000u);
  // As f16 its exponent is eight too small.
  const auto moved = (bits & 0x80u) << 8 | (bits & 0x7fu) << 7;
  return f16_to_float(static_cast<uint16_t>(moved)) * 256.0f;
}

/// float -> f8_e4m3 bits, round to nearest even; what is beyond the largest, 448, becomes that.
constexpr uint8_t float_to_f8_e4m3(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<uint8_t>(sign | 0x7fu);
  if (magnitude < 0x3c800000u) // below 2^-6: a multiple of 2^-9, as are floats from 2^14 on
    return static_cast<uint8_t>(
        sign | (std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) - 0x46800000u));
  const uint32_t rounded = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20;
  return static_cast<uint8_t>(sign | (rounded < 0x43eu ? rounded - 0x3c0u : 0x7eu));
}

} // namespace troupe
