#include <algorithm>

#include "gpu/kernels/attention.cuh"
#include "gpu/kernels/attention_cache.cuh"
#include "gpu/kernels/launch.cuh"
#include "gpu/kernels/linear_operands.cuh"
#include "gpu/kernels/mma.cuh"

namespace troupe::gpu::kernels {
namespace {

constexpr int tile_vectors = 16;
constexpr int chunk = 32; ///< positions that are scored before the softmax moves on
constexpr float log2_of_e = 1.44269504f;

/// Enough splits under way that the memory is busy, per multiprocessor.
constexpr int64_t warps_wanted = 16;

/// What a lane knows of its tile. A lane holds parts of the query vectors g and g + 8.
struct tile_place {
  int64_t sequence = -1; ///< -1: past the last tile
  int64_t first_vector = 0;
  int64_t vectors = 0;    ///< of the sequence
  int64_t last[2] = {};   ///< last visible position of vectors g and g + 8, -1 for none
  int64_t first[2] = {};  ///< first visible position
  int64_t tile_first = 0; ///< over all vectors of the tile
  int64_t tile_last = -1;
  int64_t row[2] = {}; ///< of the batch
  int64_t head_in_group[2] = {};
};

/// Finds the sequence that the warp's tile belongs to by a running sum over the sequences.
__device__ int64_t find_sequence(const attention_args& args, int64_t group, int64_t& tile) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  for (int64_t base = 0; base < args.sequences; base += warp_threads) {
    const int64_t s = base + lane;
    const int64_t rows = s < args.sequences ? args.row_start[s + 1] - args.row_start[s] : 0;
    const auto own = static_cast<int>((rows * group + tile_vectors - 1) / tile_vectors);
    int through = own;
    for (int step = 1; step < warp_threads; step *= 2) {
      const int before = __shfl_up_sync(all_lanes, through, static_cast<unsigned>(step));
      through += lane >= step ? before : 0;
    }
    // The first lane whose sum goes beyond the tile has it.
    int found = tile < through ? lane : warp_threads;
    for (unsigned step = warp_threads / 2; step > 0; step /= 2)
      found = min(found, __shfl_xor_sync(all_lanes, found, step));
    if (found < warp_threads) {
      tile -= __shfl_sync(all_lanes, through - own, static_cast<unsigned>(found));
      return base + found;
    }
    tile -= __shfl_sync(all_lanes, through, warp_threads - 1);
  }
  return -1;
}

__device__ tile_place place_tile(const attention_args& args, int64_t tile) {
  const int64_t group = args.heads / args.cache.kv_heads;
  tile_place out;
  out.sequence = find_sequence(args, group, tile);
  if (out.sequence < 0)
    return out;
  const int64_t start = args.row_start[out.sequence];
  const int64_t rows = args.row_start[out.sequence + 1] - start;
  const int64_t past = args.context[out.sequence] - rows;
  out.first_vector = tile * tile_vectors;
  out.vectors = rows * group;
  const int g = static_cast<int>(threadIdx.x) % warp_threads / 4;
  for (int i = 0; i < 2; ++i) {
    const int64_t vector = out.first_vector + g + i * 8;
    const int64_t row = vector / group;
    const bool real = vector < out.vectors;
    out.row[i] = start + row;
    out.head_in_group[i] = vector % group;
    out.last[i] = real ? past + row : -1;
    out.first[i] = args.window > 0 ? max(out.last[i] - args.window + 1, int64_t{0}) : 0;
  }
  const int64_t low_row = out.first_vector / group;
  const int64_t high_row = min(out.first_vector + tile_vectors - 1, out.vectors - 1) / group;
  out.tile_last = past + high_row;
  out.tile_first = args.window > 0 ? max(past + low_row - args.window + 1, int64_t{0}) : 0;
  return out;
}

/// Softmax under way of a lane's two vectors. `total` sums this lane's positions alone until the
/// end. sums[b * 4 + j] holds, for vectors g and g + 8, dimensions 32 b + 8 t + j and + 4 + j.
template <int dim>
struct softmax_part {
  float top[2] = {-INFINITY, -INFINITY};
  float total[2] = {};
  float sums[dim / 8][4] = {};
};

template <int dim>
struct query_tile {
  uint4 low[dim / 32], high[dim / 32];

  __device__ void load(const attention_args& args, const tile_place& at, int64_t kv_head) {
    const int64_t group = args.heads / args.cache.kv_heads;
    const int t = static_cast<int>(threadIdx.x) % 4;
    for (int i = 0; i < 2; ++i) {
      const bool real = at.last[i] >= 0;
      const float* q = args.q + at.row[i] * args.q_stride +
                       (kv_head * group + at.head_in_group[i]) * dim + t * 8;
#pragma unroll
      for (int b = 0; b < dim / 32; ++b) {
        float v[8];
        for (int e = 0; e < 8; ++e)
          v[e] = real ? q[b * 32 + e] : 0.0f;
        (i == 0 ? low : high)[b] = pack_eight(v);
      }
    }
  }
};

/// scores[n]: vectors g, g + 8 against positions base + 8 n + 2 t, + 1, times scale * log2(e).
template <int dim, class cache_type>
__device__ void score_chunk(const query_tile<dim>& q, const kv_reader<dim, cache_type>& kv,
                            int64_t base, const tile_place& at, float (&scores)[chunk / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < chunk / 8; ++n) {
    for (float& score : scores[n])
      score = 0;
    const int64_t key = base + n * 8 + g;
    const bool real = kv.holds(key);
    const auto from = real ? kv.place(key) : kv_place{};
    const auto* k = real ? kv.key(from) + t * 8 : nullptr;
#pragma unroll
    for (int b = 0; b < dim / 32; ++b)
      mma_bf16_k32(scores[n], q.low[b], q.high[b], real ? cache_type::eight(k + b * 32) : zeros());
    const float own_scale = cache_type::is_scaled && real ? kv.key_scale(from) : 1.0f;
    for (int e = 0; e < 4; ++e) {
      const int column = 2 * t + e % 2;
      const int64_t position = base + n * 8 + column;
      const bool visible = position >= at.first[e / 2] && position <= at.last[e / 2];
      float score = scores[n][e] * (kv.args.scale * log2_of_e);
      if constexpr (cache_type::is_scaled) // of the lane that read this column's key
        score *= __shfl_sync(all_lanes, own_scale, static_cast<unsigned>(column * 4));
      scores[n][e] = visible ? score : -INFINITY;
    }
  }
}

/// Turns scores into weights relative to the new top and scales what was summed so far.
template <int dim>
__device__ void weigh(float (&scores)[chunk / 8][4], softmax_part<dim>& part) {
  for (int i = 0; i < 2; ++i) {
    float top = part.top[i];
    for (const auto& score : scores)
      top = fmaxf(top, fmaxf(score[2 * i], score[2 * i + 1]));
    for (unsigned step = 2; step > 0; step /= 2)
      top = fmaxf(top, __shfl_xor_sync(all_lanes, top, step));
    const float base = top == -INFINITY ? 0.0f : top; // nothing visible yet
    const float kept = exp2f(part.top[i] - base);
    part.top[i] = top;
    part.total[i] *= kept;
    for (auto& sum : part.sums) {
      sum[2 * i] *= kept;
      sum[2 * i + 1] *= kept;
    }
    for (auto& score : scores)
      for (int e = 2 * i; e < 2 * i + 2; ++e) {
        score[e] = exp2f(score[e] - base);
        part.total[i] += score[e];
      }
  }
}

__device__ inline uint32_t low_halves(uint32_t a, uint32_t b) { return (a & 0xffffu) | b << 16; }
__device__ inline uint32_t high_halves(uint32_t a, uint32_t b) {
  return a >> 16 | (b & 0xffff0000u);
}

/// Softmax weights of position `position` for vectors g and g + 8, times the scale of its value,
/// which for a position that one of the two does not see may be no number.
__device__ inline void scale_weights(float& low, float& high, int64_t position, float scale,
                                     const tile_place& at) {
  low = position >= at.first[0] && position <= at.last[0] ? low * scale : 0.0f;
  high = position >= at.first[1] && position <= at.last[1] ? high * scale : 0.0f;
}

/// Adds the values of 16 positions from `base` on, weighted by two neighbouring score tiles.
template <int dim, class cache_type>
__device__ void add_values(float (&first)[4], float (&second)[4],
                           const kv_reader<dim, cache_type>& kv, int64_t base, const tile_place& at,
                           softmax_part<dim>& part) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads, g = lane / 4, t = lane % 4;
  const typename cache_type::element* v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t position = base + 2 * t + i % 2 + i / 2 * 8;
    const bool real = kv.holds(position);
    const auto from = real ? kv.place(position) : kv_place{};
    v[i] = real ? kv.value(from) + g * 4 : nullptr;
    if constexpr (cache_type::is_scaled) {
      auto& weights = i < 2 ? first : second;
      scale_weights(weights[i % 2], weights[i % 2 + 2], position,
                    real ? kv.value_scale(from) : 0.0f, at);
    }
  }
  const uint32_t a0 = pack_bf16(first[0], first[1]), a1 = pack_bf16(first[2], first[3]);
  const uint32_t a2 = pack_bf16(second[0], second[1]), a3 = pack_bf16(second[2], second[3]);
#pragma unroll
  for (int b = 0; b < dim / 32; ++b) {
    uint2 x[4]; // four dimensions of four positions
    for (int i = 0; i < 4; ++i)
      x[i] = v[i] != nullptr ? cache_type::four(v[i] + b * 32) : uint2{0, 0};
    auto* sums = &part.sums[b * 4];
    mma_bf16(sums[0], a0, a1, a2, a3, low_halves(x[0].x, x[1].x), low_halves(x[2].x, x[3].x));
    mma_bf16(sums[1], a0, a1, a2, a3, high_halves(x[0].x, x[1].x), high_halves(x[2].x, x[3].x));
    mma_bf16(sums[2], a0, a1, a2, a3, low_halves(x[0].y, x[1].y), low_halves(x[2].y, x[3].y));
    mma_bf16(sums[3], a0, a1, a2, a3, high_halves(x[0].y, x[1].y), high_halves(x[2].y, x[3].y));
  }
}

/// One split of one tile, from a fresh start.
template <int dim, class cache_type>
__device__ void walk_split(const query_tile<dim>& q, const kv_reader<dim, cache_type>& kv,
                           const tile_place& at, int64_t split, softmax_part<dim>& part) {
  const int64_t begin = max(split * split_positions, at.tile_first / chunk * chunk);
  const int64_t end = min((split + 1) * split_positions, at.tile_last + 1);
  for (int64_t base = begin; base < end; base += chunk) {
    float scores[chunk / 8][4];
    score_chunk(q, kv, base, at, scores);
    weigh(scores, part);
#pragma unroll
    for (int n = 0; n < chunk / 8; n += 2)
      add_values(scores[n], scores[n + 1], kv, base + n * 8, at, part);
  }
}

/// A lane's share of a merged tile. `sums` points at dim / 2 floats, `warp_threads` apart.
struct merged_tile {
  float top[2] = {-INFINITY, -INFINITY};
  float total[2] = {};
  float* sums;

  /// Adds one split; one without a visible position changes nothing.
  template <class part_sums>
  __device__ void add(const float (&top_of)[2], const float (&total_of)[2], int dim,
                      const part_sums& sum_of) {
    for (int i = 0; i < 2; ++i) {
      if (top_of[i] == -INFINITY && total_of[i] == 0) // a NaN must go on
        continue;
      const float higher = fmaxf(top[i], top_of[i]);
      const float kept = exp2f(top[i] - higher), scaled = exp2f(top_of[i] - higher);
      top[i] = higher;
      total[i] = total[i] * kept + total_of[i] * scaled;
      for (int n = 0; n < dim / 8; ++n)
        for (int e = 2 * i; e < 2 * i + 2; ++e) {
          float& sum = sums[(n * 4 + e) * warp_threads];
          sum = sum * kept + sum_of(n, e) * scaled;
        }
    }
  }

  __device__ void store(const attention_args& args, const tile_place& at, int64_t kv_head,
                        int dim) {
    const int64_t group = args.heads / args.cache.kv_heads;
    const int t = static_cast<int>(threadIdx.x) % 4;
    for (int i = 0; i < 2; ++i) {
      float sum = total[i];
      for (unsigned step = 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(all_lanes, sum, step);
      if (at.last[i] < 0)
        continue;
      float* out =
          args.out + at.row[i] * args.out_stride + (kv_head * group + at.head_in_group[i]) * dim;
      for (int n = 0; n < dim / 8; ++n)
        for (int e = 0; e < 2; ++e) {
          const float value = sums[(n * 4 + 2 * i + e) * warp_threads];
          out[n / 4 * 32 + 8 * t + e * 4 + n % 4] = sum == 0 ? 0.0f : value / sum;
        }
    }
  }
};

constexpr int warps_for(int dim) { return dim > 128 ? 2 : 4; }

/// Floats that a split leaves per lane: tops, totals, sums.
constexpr int64_t floats_per_lane(int64_t dim) { return 4 + dim / 2; }

__device__ float* partial_of(float* scratch, int64_t tile, int64_t kv_heads, int64_t kv_head,
                             int64_t splits, int64_t split, int64_t dim) {
  const int64_t index = (tile * kv_heads + kv_head) * splits + split;
  return scratch + index * floats_per_lane(dim) * warp_threads +
         static_cast<int>(threadIdx.x) % warp_threads;
}

/// One warp owns one tile of one KV head, and with several splits one of those (blockIdx.z).
template <int dim, class cache_type>
__global__ void __launch_bounds__(warps_for(dim) * warp_threads)
    attention_tensor_kernel(attention_args args, attention_plan plan, float* scratch) {
  constexpr int warps = warps_for(dim);
  const int warp = static_cast<int>(threadIdx.x) / warp_threads;
  const int64_t tile = int64_t{blockIdx.x} * warps + warp;
  const int64_t kv_head = blockIdx.y;
  const tile_place at = place_tile(args, tile);
  if (at.sequence < 0)
    return;
  query_tile<dim> q;
  q.load(args, at, kv_head);
  const kv_reader<dim, cache_type> kv{args, args.block_table + at.sequence * args.table_stride,
                                      kv_head, at.tile_first, at.tile_last};
  if (plan.splits > 1) {
    softmax_part<dim> part;
    const int64_t split = blockIdx.z;
    walk_split(q, kv, at, split, part);
    float* to = partial_of(scratch, tile, args.cache.kv_heads, kv_head, plan.splits, split, dim);
    for (int i = 0; i < 2; ++i) {
      to[i * warp_threads] = part.top[i];
      to[(2 + i) * warp_threads] = part.total[i];
    }
    for (int n = 0; n < dim / 8; ++n)
      for (int e = 0; e < 4; ++e)
        to[(4 + n * 4 + e) * warp_threads] = part.sums[n][e];
    return;
  }
  __shared__ float sums[warps][dim / 2][warp_threads];
  merged_tile merged{.sums = &sums[warp][0][static_cast<int>(threadIdx.x) % warp_threads]};
  for (int i = 0; i < dim / 2; ++i)
    merged.sums[i * warp_threads] = 0;
  for (int64_t split = at.tile_first / split_positions; split <= at.tile_last / split_positions;
       ++split) {
    softmax_part<dim> part;
    walk_split(q, kv, at, split, part);
    merged.add(part.top, part.total, dim, [&](int n, int e) { return part.sums[n][e]; });
  }
  merged.store(args, at, kv_head, dim);
}

template <int dim>
__global__ void merge_splits_kernel(attention_args args, attention_plan plan, float* scratch) {
  const int64_t tile = blockIdx.x, kv_head = blockIdx.y;
  const tile_place at = place_tile(args, tile);
  if (at.sequence < 0)
    return;
  __shared__ float sums[dim / 2][warp_threads];
  merged_tile merged{.sums = &sums[0][threadIdx.x]};
  for (int i = 0; i < dim / 2; ++i)
    merged.sums[i * warp_threads] = 0;
  for (int64_t split = at.tile_first / split_positions; split <= at.tile_last / split_positions;
       ++split) {
    const float* from =
        partial_of(scratch, tile, args.cache.kv_heads, kv_head, plan.splits, split, dim);
    const float top[] = {from[0], from[warp_threads]};
    const float total[] = {from[2 * warp_threads], from[3 * warp_threads]};
    merged.add(top, total, dim, [&](int n, int e) { return from[(4 + n * 4 + e) * warp_threads]; });
  }
  merged.store(args, at, kv_head, dim);
}

template <int dim, class cache_type>
cudaError_t launch_over(const attention_args& args, const attention_plan& plan, float* scratch,
                        cudaStream_t stream) {
  const auto kv_heads = static_cast<unsigned>(args.cache.kv_heads);
  constexpr int warps = warps_for(dim);
  const dim3 grid{blocks_for(plan.tiles_max, warps), kv_heads, static_cast<unsigned>(plan.splits)};
  const auto status = launch(attention_tensor_kernel<dim, cache_type>, grid, warps * warp_threads,
                             stream, args, plan, scratch);
  if (status != cudaSuccess || plan.splits == 1)
    return status;
  return launch(merge_splits_kernel<dim>, {static_cast<unsigned>(plan.tiles_max), kv_heads, 1},
                warp_threads, stream, args, plan, scratch);
}

template <int dim>
cudaError_t launch_for(const attention_args& args, const attention_plan& plan, float* scratch,
                       cudaStream_t stream) {
  return args.cache.type == dtype::i8 ? launch_over<dim, i8_cache>(args, plan, scratch, stream)
                                      : launch_over<dim, bf16_cache>(args, plan, scratch, stream);
}

/// A grid has fewer blocks than that along z.
constexpr int64_t splits_end = 65536;

int64_t tiles_of(const attention_args& args) {
  const int64_t group = args.heads / args.cache.kv_heads;
  // Every sequence may end in a tile that is not full.
  return args.rows * group / tile_vectors + std::min(args.sequences, args.rows);
}

int64_t splits_of(const attention_args& args) {
  const int64_t positions_max = args.table_stride * args.cache.block_size;
  return (positions_max + split_positions - 1) / split_positions;
}

uint64_t split_bytes(int64_t warps, int64_t splits, int64_t head_dim) {
  return static_cast<uint64_t>(warps * splits * warp_threads * floats_per_lane(head_dim)) *
         sizeof(float);
}

} // namespace

bool tensor_cores_take(const kv_cache_view& cache) {
  const auto dim = cache.head_dim;
  const bool is_taken = cache.type == dtype::bf16 || cache.type == dtype::i8;
  return is_taken && (dim == 64 || dim == 96 || dim == 128 || dim == 256);
}

attention_plan plan_attention(const attention_args& args, int processors) {
  attention_plan plan;
  plan.tiles_max = tiles_of(args);
  const int64_t splits = splits_of(args);
  const int64_t warps = plan.tiles_max * args.cache.kv_heads;
  if (splits > 1 && splits < splits_end && warps < warps_wanted * processors) {
    plan.splits = splits;
    plan.scratch_bytes = split_bytes(warps, splits, args.cache.head_dim);
  }
  return plan;
}

uint64_t attention_scratch_bytes(const attention_args& largest, int processors) {
  const auto splits = std::min(splits_of(largest), splits_end - 1);
  const auto warps =
      std::min(tiles_of(largest) * largest.cache.kv_heads, warps_wanted * processors - 1);
  return splits > 1
             ? std::min(split_bytes(warps, splits, largest.cache.head_dim), split_scratch_max)
             : 0;
}

cudaError_t launch_attention_tensor(const attention_args& args, const attention_plan& plan,
                                    void* scratch, cudaStream_t stream) {
  auto* floats = static_cast<float*>(scratch);
  switch (args.cache.head_dim) {
  case 64:
    return launch_for<64>(args, plan, floats, stream);
  case 96:
    return launch_for<96>(args, plan, floats, stream);
  case 128:
    return launch_for<128>(args, plan, floats, stream);
  default:
    return launch_for<256>(args, plan, floats, stream);
  }
}

} // namespace troupe::gpu::kernels
