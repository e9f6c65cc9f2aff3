#pragma once
#include "gpu/cpu/kernels.hpp"

/// Activations as blocks of bytes, over the primitives of the simd/vec_*.hpp that was included
/// before.
namespace troupe::gpu::cpu {
namespace {

/// The largest magnitude becomes 127. Blocks that are all but zero become zero: the inverse of
/// their scale would overflow.
inline void to_bytes_block(const float* from, int32_t added, bool halves, activation_block* out) {
  constexpr float least = 1e-30f;
  vec top = zero(), no_number = zero();
  for (int i = 0; i < 32; i += lanes) {
    const vec x = load_f32(from + i);
    top = max(top, max(x, sub(zero(), x)));
    no_number = fma(x, zero(), no_number); // NaN where x is infinite or none
  }
  const float extreme = max_lane(top);
  const vec inverse = splat(extreme > least ? 127.0f / extreme : 0.0f);
  vec sums[2] = {zero(), zero()};
  for (int i = 0; i < 32; i += lanes) {
    const vec steps = nearest(mul(load_f32(from + i), inverse));
    sums[i / 16] = add(sums[i / 16], steps);
    store_bytes(out->values + i, to_int(steps));
  }
  float parts[4];
  sum_lanes(sums[0], sums[1], no_number, zero(), parts);
  const bool bad = parts[2] != 0;
  out->scale = bad ? parts[2] : extreme > least ? extreme / 127.0f : 0.0f;
  out->sum = bad ? parts[2] : out->scale * (parts[0] + parts[1]);
  const float first = bad ? 0.0f : halves ? parts[0] : parts[0] + parts[1];
  const float second = bad || !halves ? 0.0f : parts[1];
  out->start[0] = -added * static_cast<int32_t>(first);
  out->start[1] = -added * static_cast<int32_t>(second);
}

void to_bytes(const float* from, int32_t added, bool halves, activation_block* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 32, ++out)
    to_bytes_block(from + i, added, halves, out);
}

} // namespace
} // namespace troupe::gpu::cpu
