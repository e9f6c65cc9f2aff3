#include "gpu/kernels/kv_write.cuh"

#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/kv_place.cuh"
#include "gpu/kernels/launch.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr unsigned threads = 256;
constexpr int warps = threads / warp_threads;

__device__ kv_place place_of_slot(const kv_cache_view& cache, int64_t slot, int64_t head) {
  return place_of(cache, slot / cache.block_size, head, slot % cache.block_size);
}

__device__ void store_element(void* to, dtype type, int64_t i, float value) {
  if (type == dtype::f32)
    static_cast<float*>(to)[i] = value;
  else
    static_cast<uint16_t*>(to)[i] = float_to_bf16(value);
}

/// One thread per element.
__global__ void kv_write_kernel(kv_write_args args) {
  const auto& cache = args.cache;
  const int64_t width = cache.kv_heads * cache.head_dim;
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  const int64_t row = i / width, col = i % width;
  if (row >= args.rows)
    return;
  const auto to = place_of_slot(cache, args.slots[row], col / cache.head_dim);
  const int64_t at = to.row * cache.head_dim + col % cache.head_dim;
  store_element(to.block + cache.k, cache.type, at, args.k[row * args.k_stride + col]);
  store_element(to.block + cache.v, cache.type, at, args.v[row * args.v_stride + col]);
}

/// Writes one head of one token as bytes, by a whole warp; every lane returns their scale, which is
/// NaN where a number is not finite.
__device__ float store_bytes(const float* from, int64_t n, int8_t* to) {
  constexpr float least = 1e-30f; // 127 / top overflows for less
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  float top = 0, broken = 0;
  for (int64_t d = lane; d < n; d += warp_threads) {
    top = fmaxf(top, fabsf(from[d]));
    broken = isfinite(from[d]) ? broken : 1.0f;
  }
  top = warp_max(top);
  const bool is_finite = warp_max(broken) == 0;
  const bool is_something = is_finite && top >= least;
  const float inverse = is_something ? 127.0f / top : 0.0f;
  for (int64_t d = lane; d < n; d += warp_threads)
    to[d] = is_something ? static_cast<int8_t>(rintf(from[d] * inverse)) : int8_t{0};
  if (!is_finite)
    return __uint_as_float(0x7fc00000u);
  return is_something ? top / 127.0f : 0.0f;
}

/// One warp per token and head.
__global__ void kv_write_bytes_kernel(kv_write_args args) {
  const auto& cache = args.cache;
  const int64_t i = int64_t{blockIdx.x} * warps + static_cast<int>(threadIdx.x) / warp_threads;
  const int64_t row = i / cache.kv_heads, head = i % cache.kv_heads;
  if (row >= args.rows)
    return;
  const auto dim = cache.head_dim;
  const auto to = place_of_slot(cache, args.slots[row], head);
  const float k = store_bytes(args.k + row * args.k_stride + head * dim, dim,
                              part_of<int8_t>(to, cache.k) + to.row * dim);
  const float v = store_bytes(args.v + row * args.v_stride + head * dim, dim,
                              part_of<int8_t>(to, cache.v) + to.row * dim);
  if (threadIdx.x % warp_threads != 0)
    return;
  part_of<float>(to, cache.k_scales)[to.row] = k;
  part_of<float>(to, cache.v_scales)[to.row] = v;
}

} // namespace

cudaError_t launch_kv_write(const kv_write_args& args, cudaStream_t stream) {
  const int64_t heads = args.rows * args.cache.kv_heads;
  if (args.cache.type == dtype::i8)
    return launch(kv_write_bytes_kernel, {blocks_for(heads, warps)}, threads, stream, args);
  return launch(kv_write_kernel, {blocks_for(heads * args.cache.head_dim, threads)}, threads,
                stream, args);
}

} // namespace troupe::gpu::kernels
