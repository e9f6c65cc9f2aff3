#pragma once
#include <bit>
#include <cstdint>

#include "gpu/rounded.hpp"

/// What choosing a token computes with, written once for the host and for kernels: the same bits
/// everywhere, as a text must not change with the device that goes on with it. No library call and
/// no fused multiplication; masses are integers, whose sums have no order.
namespace troupe::gpu {

/// exp(x) for x <= 0, 0 below e^-87: 2^n by the exponent bits, e^r by a polynomial (Cody and
/// Waite's reduction). Branch free, so that compilers make vector code of it. Relative error below
/// 2e-7.
TROUPE_EVERYWHERE inline float exp_of_negative(float x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float to_integer = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
  // Masks, where a condition would keep a loop from becoming vector code.
  const auto kept = -static_cast<uint32_t>(x >= -87.0f);
  const auto clamped = std::bit_cast<float>((std::bit_cast<uint32_t>(x) & kept) |
                                            (std::bit_cast<uint32_t>(-87.0f) & ~kept));
  const float n = sum(sum(product(clamped, log2_e), to_integer), -to_integer);
  const float r = sum(sum(clamped, -product(n, ln2_high)), -product(n, ln2_low));
  float y = 1.9875691500e-4f;
  y = sum(product(y, r), 1.3981999507e-3f);
  y = sum(product(y, r), 8.3334519073e-3f);
  y = sum(product(y, r), 4.1665795894e-2f);
  y = sum(product(y, r), 1.6666665459e-1f);
  y = sum(product(y, r), 5.0000001201e-1f);
  y = sum(sum(product(product(y, r), r), r), 1.0f);
  const auto power = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(product(y, std::bit_cast<float>(power))) &
                              kept);
}

/// A token's weight in the draw: exp((logit - highest) / temperature), in [0, 1], and 1 for the
/// highest.
TROUPE_EVERYWHERE inline float weight_of(float logit, float highest, float temperature) {
#ifdef __CUDA_ARCH__
  return exp_of_negative(__fdiv_rn(__fsub_rn(logit, highest), temperature));
#else
  return exp_of_negative((logit - highest) / temperature);
#endif
}

/// A weight in units of 2^-39, to the nearest: 2^24 weights of 1 still add up in 64 bits, and what
/// is lost, under 2^-40 of the heaviest token's share, is never drawn.
TROUPE_EVERYWHERE inline uint64_t mass_of(float weight) {
#ifdef __CUDA_ARCH__
  return __float2ull_rn(weight * 0x1p39f);
#else
  constexpr double to_units = 12288.0; // 1.5 * 2^13: the last bit of what is near it is a unit
  return std::bit_cast<uint64_t>(double{weight} + to_units) - std::bit_cast<uint64_t>(to_units);
#endif
}
inline constexpr double mass_unit = 0x1p-39;

/// The mass that `share` of `total` is, 1 at least.
TROUPE_EVERYWHERE inline uint64_t mass_wanted(float share, uint64_t total) {
  const double part = static_cast<double>(share) * static_cast<double>(total);
  const auto whole = static_cast<uint64_t>(part);
  return whole < 1 ? 1 : whole > total ? total : whole;
}

/// The upper half of a * b: with `a` random, an even choice of 0 .. b - 1.
TROUPE_EVERYWHERE inline uint64_t high_product(uint64_t a, uint64_t b) {
  const uint64_t a_low = a & 0xffffffffu, a_high = a >> 32;
  const uint64_t b_low = b & 0xffffffffu, b_high = b >> 32;
  const uint64_t middle = a_high * b_low + (a_low * b_low >> 32);
  const uint64_t other = a_low * b_high + (middle & 0xffffffffu);
  return a_high * b_high + (middle >> 32) + (other >> 32);
}

/// What a token's logit becomes by the penalties: repetition for one that stands in the prompt or
/// the text, the others for one generated `count` times.
TROUPE_EVERYWHERE inline float penalized(float logit, float repetition, float frequency,
                                         float presence, uint32_t count) {
#ifdef __CUDA_ARCH__
  logit = logit > 0 ? __fdiv_rn(logit, repetition) : __fmul_rn(logit, repetition);
#else
  logit = logit > 0 ? logit / repetition : logit * repetition;
#endif
  if (count > 0)
    logit = sum(logit, -sum(product(frequency, static_cast<float>(count)), presence));
  return logit;
}

} // namespace troupe::gpu
