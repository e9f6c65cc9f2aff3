#include "gpu/kernels/choose_select.cuh"

namespace troupe::gpu::kernels {
namespace {

/// Weights with any mass are above 2^-40: their bits, less those of that, as a key.
constexpr uint32_t least_weight_bits = (127u - 40u) << 23;
__device__ inline uint32_t key_of_weight(float weight) {
  const auto bits = std::bit_cast<uint32_t>(weight);
  return bits < least_weight_bits ? 0u : (bits - least_weight_bits) << 3;
}
__device__ inline float weight_of_key(uint32_t key) {
  return std::bit_cast<float>((key >> 3) + least_weight_bits);
}

/// For counts of items.
struct always_one {
  __device__ uint64_t operator()(uint32_t) const { return 1; }
};

/// The `n`-th highest of the parts' bests, which `n` logits of the row reach; 0 if there are fewer
/// parts. Most logits are below it and need no further look.
__device__ uint32_t floor_of_tops(const uint64_t* of_parts, int64_t parts, int n,
                                  uint32_t& shared) {
  __syncthreads();
  if (threadIdx.x == 0)
    shared = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) {
    int above = 0;
    for (int64_t j = 0; j < parts; ++j)
      above += of_parts[j] > of_parts[i] ? 1 : 0;
    if (above == n - 1)
      shared = static_cast<uint32_t>(of_parts[i] >> 32);
  }
  __syncthreads();
  return shared;
}

__global__ void tops_kernel(choose_args args, choose_partials partials) {
  __shared__ select_memory memory;
  __shared__ uint64_t found[choose_top_max];
  __shared__ int found_count;
  __shared__ uint32_t shared_floor;
  const int64_t row = blockIdx.x;
  const auto how = args.how[row];
  if (how.is_left_out || how.top <= 0)
    return;
  const auto* of_parts = partials.highest + row * partials.parts;
  const auto best = highest_of_parts(of_parts, partials.parts, memory.warps);
  if (!is_finite_rank(best))
    return;
  const float* logits = args.logits + row * args.stride;
  const int n = min(min(how.top, choose_top_max), static_cast<int>(args.vocabulary));
  const auto floor = floor_of_tops(of_parts, partials.parts, n, shared_floor);
  const auto look = [&](int64_t i) -> ranked_amount {
    const auto key = ordered(logits[i]);
    return {key, key >= floor ? 1u : 0u};
  };
  const auto cut =
      keep_until(args.vocabulary, static_cast<uint64_t>(n) - 1, memory, look, always_one{});
  if (threadIdx.x == 0)
    found_count = 0;
  __syncthreads();
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < args.vocabulary; i += blockDim.x)
    if (cut.keeps(ordered(logits[i]), i))
      found[atomicAdd(&found_count, 1)] = ranked(logits[i], i);
  __syncthreads();
  auto& out = args.out[row];
  if (threadIdx.x == 0)
    out.tops = n;
  if (static_cast<int>(threadIdx.x) < n) {
    const auto own = found[threadIdx.x];
    int above = 0;
    for (int i = 0; i < n; ++i)
      above += found[i] > own ? 1 : 0;
    out.top_tokens[above] = token_of(own);
    out.top_logits[above] = logits[token_of(own)];
  }
}

/// The weights of a row, from where `weigh_kernel` stored them or from the logits.
struct row_weights {
  const float* values;
  float highest, temperature;
  bool is_stored;
  __device__ float at(int64_t i) const {
    return is_stored ? values[i] : weight_of(values[i], highest, temperature);
  }
};

/// Which tokens top_k and top_p keep.
__device__ rank_cut cut_of(const choose_row& how, const row_weights& weights, int64_t vocabulary,
                           select_memory& memory) {
  rank_cut out;
  const auto one = [&](int64_t i) -> ranked_amount {
    const float weight = weights.at(i);
    return {key_of_weight(weight), mass_of(weight) > 0 ? 1u : 0u};
  };
  if (how.top_k > 0 && how.top_k < vocabulary)
    out = keep_until(vocabulary, static_cast<uint64_t>(how.top_k) - 1, memory, one, always_one{});
  if (how.top_p >= 1.0f)
    return out;
  const auto mass = [&](int64_t i) -> ranked_amount {
    const float weight = weights.at(i);
    const auto key = key_of_weight(weight);
    return {key, out.keeps(key, i) ? mass_of(weight) : 0};
  };
  uint64_t total = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < vocabulary; i += blockDim.x)
    total += mass(i).amount;
  total = block_sum(total, memory.warps);
  const auto mass_of_key = [](uint32_t key) { return mass_of(weight_of_key(key)); };
  auto of_share =
      keep_until(vocabulary, mass_wanted(how.top_p, total) - 1, memory, mass, mass_of_key);
  if (of_share.key == out.key) // it may keep all that the first cut left of that key
    of_share.last = min(of_share.last, out.last);
  return of_share;
}

__device__ int64_t draw(const choose_args& args, const choose_partials& partials,
                        const choose_row& how, const row_weights& weights, select_memory& memory) {
  const int64_t row = blockIdx.x;
  if (!is_cut(how, args.vocabulary)) {
    const auto* of_parts = partials.mass + row * partials.parts;
    const auto total = sum_of_parts(of_parts, partials.parts, memory.warps);
    const auto part = crossing(static_cast<int>(partials.parts), high_product(how.random, total),
                               memory, [&](int i) { return of_parts[i]; });
    const int64_t begin = part.at * choose_part;
    const auto count = static_cast<int>(min(choose_part, args.vocabulary - begin));
    const auto token = crossing(count, part.rest, memory, [&](int i) -> uint64_t {
      const float weight = weights.at(begin + i);
      return weight >= how.min_p ? mass_of(weight) : 0;
    });
    return begin + token.at;
  }
  const auto cut = cut_of(how, weights, args.vocabulary, memory);
  const auto mass = [&](int64_t i) -> uint64_t {
    const float weight = weights.at(i);
    return weight >= how.min_p && cut.keeps(key_of_weight(weight), i) ? mass_of(weight) : 0;
  };
  uint64_t total = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < args.vocabulary; i += blockDim.x)
    total += mass(i);
  total = block_sum(total, memory.warps);
  return walk(args.vocabulary, high_product(how.random, total), memory, mass);
}

/// A row whose logits are sound gets its token, and what its logprob follows from.
__global__ void ends_kernel(choose_args args, choose_partials partials) {
  __shared__ select_memory memory;
  const int64_t row = blockIdx.x;
  const auto how = args.how[row];
  if (how.is_left_out)
    return;
  auto& out = args.out[row];
  const auto of_row = row * partials.parts;
  const auto raw = highest_of_parts(partials.highest + of_row, partials.parts, memory.warps);
  const bool is_sound = is_finite_rank(raw);
  if (threadIdx.x == 0)
    out.is_sound = is_sound ? 1 : 0;
  if (!is_sound)
    return;
  const auto best = how.edits == 0
                        ? raw
                        : highest_of_parts(partials.edited + of_row, partials.parts, memory.warps);
  const float* logits = args.logits + row * args.stride;
  int64_t token = token_of(best);
  if (how.temperature > 0 && is_finite_rank(best))
    token = draw(args, partials, how,
                 {logits, logit_of(best), how.temperature, keeps_weights(how, args.vocabulary)},
                 memory);
  if (threadIdx.x == 0) {
    out.token = static_cast<int32_t>(token);
    out.highest = logit_of(raw);
  }
  if (how.top < 0)
    return;
  const auto mass = sum_of_parts(partials.raw_mass + of_row, partials.parts, memory.warps);
  if (threadIdx.x == 0) {
    out.mass = mass;
    out.logit = logits[token];
    out.tops = how.top == 0 ? 0 : out.tops;
  }
  __syncthreads();
  for (auto i = static_cast<int32_t>(threadIdx.x); i < how.edits;
       i += static_cast<int32_t>(blockDim.x))
    if (const auto& edit = args.edits[how.first_edit + i]; edit.token == token)
      out.logit = edit.raw;
}

} // namespace

cudaError_t launch_choose_tops(const choose_args& args, const choose_partials& partials,
                               cudaStream_t stream) {
  return launch(tops_kernel, {static_cast<unsigned>(args.rows), 1, 1}, choose_row_threads, stream,
                args, partials);
}

cudaError_t launch_choose_ends(const choose_args& args, const choose_partials& partials,
                               cudaStream_t stream) {
  return launch(ends_kernel, {static_cast<unsigned>(args.rows), 1, 1}, choose_row_threads, stream,
                args, partials);
}

} // namespace troupe::gpu::kernels
