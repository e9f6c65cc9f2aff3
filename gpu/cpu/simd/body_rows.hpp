#pragma once
#include "gpu/cpu/kernels.hpp"
#include "gpu/cpu/simd/body_exponential.hpp"

/// Element-wise loops over the primitives of the simd/vec_*.hpp that was included before.
namespace troupe::gpu::cpu {
namespace {

/// Calls whole(i) for every full vector of 0 .. n - 1 and part(i, count) for what is left.
template <class Whole, class Part>
inline void for_vectors(int64_t n, Whole whole, Part part) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    whole(i);
  if (i < n)
    part(i, n - i);
}

inline vec sigmoid(vec x) {
  return div(splat(1.0f), add(splat(1.0f), exponential(sub(zero(), x))));
}

/// Half of the complementary error function for z >= 0: e^(-z^2) times a polynomial in
/// t = 1 / (1 + z / 2), fitted for equal relative error over z in 0 .. 12.
inline vec half_erfc(vec z) {
  const vec t = div(splat(1.0f), fma(z, splat(0.5f), splat(1.0f)));
  constexpr float fit[] = {0.28207516f, 0.28262666f,  0.24074276f, 0.21494855f, -0.06553561f,
                           0.3565794f,  -0.58831476f, 0.36502544f, -0.0950796f, 0.006931966f};
  vec p = splat(fit[9]);
  for (int i = 8; i >= 0; --i)
    p = fma(p, t, splat(fit[i]));
  return mul(mul(mul(p, t), splat(0.5f)), exponential(sub(zero(), mul(z, z))));
}

struct silu {
  static vec of(vec x) { return mul(x, sigmoid(x)); }
};
struct gelu {
  static vec of(vec x) {
    const vec magnitude = max(x, sub(zero(), x));
    const vec tail = half_erfc(mul(magnitude, splat(0.70710678f)));
    return mul(x, if_less(x, zero(), tail, sub(splat(1.0f), tail)));
  }
};
struct gelu_tanh {
  // (1 + tanh(u)) / 2 is sigmoid(2u): nothing cancels for negative u.
  static vec of(vec x) {
    const vec cubic = fma(mul(mul(x, x), x), splat(0.044715f), x);
    return mul(x, sigmoid(mul(cubic, splat(1.59576912f))));
  }
};
struct relu {
  static vec of(vec x) { return max(zero(), x); }
};

template <class Act>
void gated_as(const float* gate, const float* up, float* out, int64_t n) {
  for_vectors(
      n, [&](int64_t i) { store_f32(out + i, mul(Act::of(load_f32(gate + i)), load_f32(up + i))); },
      [&](int64_t i, int64_t m) {
        const vec value = mul(Act::of(load_f32_part(gate + i, m)), load_f32_part(up + i, m));
        store_f32_part(out + i, value, m);
      });
}

void gated(gate act, const float* gate_row, const float* up, float* out, int64_t n) {
  switch (act) {
  case gate::silu:
    return gated_as<silu>(gate_row, up, out, n);
  case gate::gelu:
    return gated_as<gelu>(gate_row, up, out, n);
  case gate::gelu_tanh:
    return gated_as<gelu_tanh>(gate_row, up, out, n);
  case gate::relu:
    return gated_as<relu>(gate_row, up, out, n);
  }
}

template <element Kind>
inline constexpr int64_t bytes_of = Kind == element::f32 ? 4 : 2;

template <element Kind>
inline vec load(const unsigned char* p) {
  if constexpr (Kind == element::f32)
    return load_f32(p);
  else if constexpr (Kind == element::f16)
    return load_f16(p);
  else
    return load_bf16(p);
}
template <element Kind>
inline vec load_part(const unsigned char* p, int64_t n) {
  if constexpr (Kind == element::f32)
    return load_f32_part(p, n);
  else if constexpr (Kind == element::f16)
    return load_f16_part(p, n);
  else
    return load_bf16_part(p, n);
}

template <element Kind>
void widen(const void* from, float scale, float* out, int64_t n) {
  const auto* bytes = static_cast<const unsigned char*>(from);
  const vec factor = splat(scale);
  for_vectors(
      n,
      [&](int64_t i) { store_f32(out + i, mul(load<Kind>(bytes + i * bytes_of<Kind>), factor)); },
      [&](int64_t i, int64_t m) {
        store_f32_part(out + i, mul(load_part<Kind>(bytes + i * bytes_of<Kind>, m), factor), m);
      });
}

void to_bf16(const float* from, unsigned char* out, int64_t n) {
  for_vectors(
      n, [&](int64_t i) { store_bf16(out + i * 2, load_f32(from + i)); },
      [&](int64_t i, int64_t m) { store_bf16_part(out + i * 2, load_f32_part(from + i, m), m); });
}

float sum_of_squares(const float* x, int64_t n) {
  vec sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (int u = 0; u < 4; ++u) {
      const vec value = load_f32(x + i + u * lanes);
      sums[u] = fma(value, value, sums[u]);
    }
  for (; i < n; i += lanes) {
    const vec value = load_f32_part(x + i, n - i < lanes ? n - i : lanes);
    sums[0] = fma(value, value, sums[0]);
  }
  float parts[4];
  sum_lanes(sums[0], sums[1], sums[2], sums[3], parts);
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

void scale_by(const float* x, float factor, const float* gain, float* out, int64_t n) {
  const vec scale = splat(factor);
  for_vectors(
      n,
      [&](int64_t i) { store_f32(out + i, mul(mul(load_f32(x + i), scale), load_f32(gain + i))); },
      [&](int64_t i, int64_t m) {
        const vec value = mul(mul(load_f32_part(x + i, m), scale), load_f32_part(gain + i, m));
        store_f32_part(out + i, value, m);
      });
}

void rotate(float* first, float* second, const float* cos, const float* sin, int64_t n) {
  for_vectors(
      n,
      [&](int64_t i) {
        const vec a = load_f32(first + i), b = load_f32(second + i);
        const vec c = load_f32(cos + i), s = load_f32(sin + i);
        store_f32(first + i, sub(mul(a, c), mul(b, s)));
        store_f32(second + i, add(mul(b, c), mul(a, s)));
      },
      [&](int64_t i, int64_t m) {
        const vec a = load_f32_part(first + i, m), b = load_f32_part(second + i, m);
        const vec c = load_f32_part(cos + i, m), s = load_f32_part(sin + i, m);
        store_f32_part(first + i, sub(mul(a, c), mul(b, s)), m);
        store_f32_part(second + i, add(mul(b, c), mul(a, s)), m);
      });
}

} // namespace
} // namespace troupe::gpu::cpu
