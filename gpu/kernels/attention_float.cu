#include "gpu/kernels/attention.cuh"
#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/kv_place.cuh"
#include "gpu/kernels/launch.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr int warps = 4;
constexpr int dims_per_lane = static_cast<int>(float_head_dim_max) / warp_threads;

struct softmax_state {
  float top = -INFINITY;
  float total = 0;
  float sums[dims_per_lane] = {};
};

__device__ kv_place place_of_position(const kv_cache_view& cache, const int32_t* table,
                                      int64_t kv_head, int64_t position) {
  return place_of(cache, table[position / cache.block_size], kv_head, position % cache.block_size);
}

/// Element `i` of a block's keys or values, in units of its row's scale where it has one.
__device__ float load_cached(const void* data, dtype type, int64_t i) {
  return type == dtype::i8 ? static_cast<float>(static_cast<const int8_t*>(data)[i])
                           : load_element(data, type, i);
}

__device__ float scale_of(const kv_place& at, int64_t scales, dtype type) {
  return type == dtype::i8 ? part_of<float>(at, scales)[at.row] : 1.0f;
}

/// 32 positions from `base` on: a lane scores one of them, then every lane gathers its dimensions.
__device__ void take_positions(const attention_args& args, const int32_t* table, int64_t kv_head,
                               const float* q, int64_t base, int64_t first, int64_t last,
                               softmax_state& state) {
  const auto& cache = args.cache;
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const int64_t own = base + lane;
  const bool visible = own >= first && own <= last;
  float score = -INFINITY;
  if (visible) {
    const auto at = place_of_position(cache, table, kv_head, own);
    const auto* keys = at.block + cache.k;
    float sum = 0;
    for (int64_t d = 0; d < cache.head_dim; ++d)
      sum = fmaf(q[d], load_cached(keys, cache.type, at.row * cache.head_dim + d), sum);
    score = sum * scale_of(at, cache.k_scales, cache.type) * args.scale;
  }
  // At least one position of every 32 that are visited is visible, so `top` is finite.
  const float top = fmaxf(state.top, warp_max(score));
  const float kept = expf(state.top - top);
  const float own_weight = visible ? expf(score - top) : 0.0f;
  state.total = state.total * kept + warp_sum(own_weight);
  state.top = top;
  for (float& sum : state.sums)
    sum *= kept;
  for (int i = 0; i < warp_threads; ++i) {
    float weight = __shfl_sync(all_lanes, own_weight, static_cast<unsigned>(i));
    const int64_t position = base + i;
    if (position < first || position > last)
      continue;
    const auto at = place_of_position(cache, table, kv_head, position);
    const auto* values = at.block + cache.v;
    weight *= scale_of(at, cache.v_scales, cache.type);
    for (int j = 0; j < dims_per_lane; ++j) {
      const int64_t d = j * warp_threads + lane;
      if (d < cache.head_dim)
        state.sums[j] = fmaf(weight, load_cached(values, cache.type, at.row * cache.head_dim + d),
                             state.sums[j]);
    }
  }
}

__global__ void attention_float_kernel(attention_args args) {
  __shared__ float queries[warps][float_head_dim_max];
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const int warp = static_cast<int>(threadIdx.x) / warp_threads;
  const int64_t row = blockIdx.x;
  const int64_t head = int64_t{blockIdx.y} * warps + warp;
  if (head >= args.heads)
    return;
  const auto dim = args.cache.head_dim;
  float* q = queries[warp];
  for (int64_t d = lane; d < dim; d += warp_threads)
    q[d] = args.q[row * args.q_stride + head * dim + d];
  __syncwarp();
  const int64_t s = sequence_of(args.row_start, args.sequences, row);
  const int64_t last = args.context[s] - (args.row_start[s + 1] - row);
  const int64_t first = args.window > 0 && last >= args.window ? last - args.window + 1 : 0;
  const int32_t* table = args.block_table + s * args.table_stride;
  const int64_t kv_head = head / (args.heads / args.cache.kv_heads);
  softmax_state state;
  for (int64_t base = first / warp_threads * warp_threads; base <= last; base += warp_threads)
    take_positions(args, table, kv_head, q, base, first, last, state);
  float* out = args.out + row * args.out_stride + head * dim;
  for (int j = 0; j < dims_per_lane; ++j)
    if (const int64_t d = j * warp_threads + lane; d < dim)
      out[d] = state.total == 0 ? 0.0f : state.sums[j] / state.total;
}

} // namespace

cudaError_t launch_attention_float(const attention_args& args, cudaStream_t stream) {
  const dim3 grid{static_cast<unsigned>(args.rows), blocks_for(args.heads, warps), 1};
  return launch(attention_float_kernel, grid, warps * warp_threads, stream, args);
}

} // namespace troupe::gpu::kernels
