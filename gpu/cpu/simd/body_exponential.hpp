#pragma once
/// The exponential over the primitives of the simd/vec_*.hpp that was included before.
namespace troupe::gpu::cpu {
namespace {

/// e^x with a relative error of about 1e-7; 0 below -87.3, no larger than e^88 above.
inline vec exponential(vec x) {
  // Operand order: a NaN in x must come out as a NaN.
  const vec clamped = max(splat(-87.3f), min(splat(88.0f), x));
  const vec n = nearest(mul(clamped, splat(1.44269504f)));
  // ln 2 in two parts, the first short enough that n * part is exact.
  vec r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  vec p = splat(1.3814610e-3f);
  p = fma(p, r, splat(8.3687112e-3f));
  p = fma(p, r, splat(4.1668388e-2f));
  p = fma(p, r, splat(1.6666521e-1f));
  p = fma(p, r, splat(0.49999994f));
  const vec value = add(fma(mul(p, r), r, r), splat(1.0f));
  return if_less(x, splat(-87.3f), zero(), mul(value, power_of_two(n)));
}

} // namespace
} // namespace troupe::gpu::cpu
