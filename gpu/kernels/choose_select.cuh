#pragma once
#include "gpu/kernels/choose_parts.cuh"

/// Finding the item at which a running sum of amounts goes beyond a target, by one block: along the
/// tokens of a row, or down its ranks. Amounts are counts or masses.
namespace troupe::gpu::kernels {

constexpr int radix_bits = 11;
constexpr int radix_bins = 1 << radix_bits;
/// Tokens that are added up before a walk along a row looks closer.
constexpr int64_t walk_chunk = 1024;
static_assert(choose_vocabulary_max / walk_chunk <= radix_bins);

/// Shared memory of one block.
struct select_memory {
  uint32_t low[radix_bins], high[radix_bins]; ///< words of the sums of bins, or of chunks
  uint64_t warps[warp_threads];
  uint64_t before; ///< what `crossing` found
  uint64_t value;
  int at;

  __device__ uint64_t sum_at(unsigned i) const {
    return static_cast<uint64_t>(high[i]) << 32 | low[i];
  }
};

struct crossing_point {
  int at = -1;        ///< the first item with which the sum exceeds the target; -1: it never does
  uint64_t rest = 0;  ///< target less the sum before it
  uint64_t value = 0; ///< its amount
};

/// Over value_of(0) .. value_of(count - 1); the same for every thread of the block.
template <class ValueOf>
__device__ crossing_point crossing(int count, uint64_t target, select_memory& memory,
                                   const ValueOf& value_of) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const int per = (count + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
  const int first = static_cast<int>(threadIdx.x) * per, last = min(first + per, count);
  uint64_t own = 0;
  for (int i = first; i < last; ++i)
    own += value_of(i);
  uint64_t through = own;
  for (unsigned step = 1; step < warp_threads; step *= 2) {
    const auto before = __shfl_up_sync(all_lanes, through, step);
    through += lane >= static_cast<int>(step) ? before : 0;
  }
  __syncthreads();
  if (lane == warp_threads - 1)
    memory.warps[threadIdx.x / warp_threads] = through;
  if (threadIdx.x == 0)
    memory.at = -1;
  __syncthreads();
  for (unsigned i = 0; i < threadIdx.x / warp_threads; ++i)
    through += memory.warps[i];
  if (through - own <= target && target < through) {
    auto sum = through - own;
    int i = first;
    uint64_t value = value_of(i);
    for (; sum + value <= target; value = value_of(++i))
      sum += value;
    memory.at = i;
    memory.before = sum;
    memory.value = value;
  }
  __syncthreads();
  if (memory.at < 0)
    return {};
  return {memory.at, target - memory.before, memory.value};
}

/// The first token at which the sum of amount_of(token) over the row exceeds `target`; it must.
template <class AmountOf>
__device__ int64_t walk(int64_t tokens, uint64_t target, select_memory& memory,
                        const AmountOf& amount_of) {
  const int lane = static_cast<int>(threadIdx.x) % warp_threads;
  const auto chunks = static_cast<int>((tokens + walk_chunk - 1) / walk_chunk);
  __syncthreads();
  for (int chunk = static_cast<int>(threadIdx.x) / warp_threads; chunk < chunks;
       chunk += static_cast<int>(blockDim.x) / warp_threads) {
    const int64_t end = min((chunk + 1) * walk_chunk, tokens);
    uint64_t own = 0;
#pragma unroll 4
    for (int64_t i = chunk * walk_chunk + lane; i < end; i += warp_threads)
      own += amount_of(i);
    for (unsigned step = warp_threads / 2; step > 0; step /= 2)
      own += __shfl_xor_sync(all_lanes, own, step);
    if (lane == 0) {
      memory.low[chunk] = static_cast<uint32_t>(own);
      memory.high[chunk] = static_cast<uint32_t>(own >> 32);
    }
  }
  __syncthreads();
  const auto chunk = crossing(chunks, target, memory,
                              [&](int i) { return memory.sum_at(static_cast<unsigned>(i)); });
  const int64_t begin = chunk.at * walk_chunk;
  const auto within = static_cast<int>(min(walk_chunk, tokens - begin));
  return begin +
         crossing(within, chunk.rest, memory, [&](int i) { return amount_of(begin + i); }).at;
}

/// A key of ranks, higher ones first, and what it adds; amounts of 0 are not there.
struct ranked_amount {
  uint32_t key = 0;
  uint64_t amount = 0;
};

/// Which items of a row are kept: keys above, and of those equal the tokens up to `last`.
struct rank_cut {
  uint32_t key = 0;
  int64_t last = INT64_MAX;
  __device__ bool keeps(uint32_t of, int64_t token) const {
    return of > key || (of == key && token <= last);
  }
};

/// Adds to a bin. Two words, for shared memory adds words natively and nothing wider.
__device__ inline void add_to_bin(uint32_t* low, uint32_t* high, uint64_t amount) {
  const auto part = static_cast<uint32_t>(amount);
  const uint32_t before = atomicAdd(low, part);
  const auto carried = static_cast<uint32_t>(amount >> 32) + (before + part < before ? 1u : 0u);
  if (carried != 0)
    atomicAdd(high, carried);
}

/// Keeps items in the order of their ranks, equal ones by token, through the first with which the
/// sum of their amounts exceeds `target`; all if it never does. Items of one key have one amount.
/// look(token) gives a `ranked_amount`, each_of(key) the amount of one item of that key.
template <class Look, class EachOf>
__device__ rank_cut keep_until(int64_t tokens, uint64_t target, select_memory& memory,
                               const Look& look, const EachOf& each_of) {
  uint32_t prefix = 0, known = 0;
  uint64_t of_key = 0;
  for (int shift = 32; shift > 0;) {
    const int bits = min(radix_bits, shift);
    shift -= bits;
    const auto bins = 1u << bits;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < radix_bins; i += blockDim.x)
      memory.low[i] = memory.high[i] = 0;
    __syncthreads();
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < tokens; i += blockDim.x) {
      const ranked_amount one = look(i);
      if (one.amount == 0 || (one.key & known) != prefix)
        continue;
      const auto bin = one.key >> shift & (bins - 1);
      add_to_bin(memory.low + bin, memory.high + bin, one.amount);
    }
    __syncthreads();
    const auto found = crossing(static_cast<int>(bins), target, memory, [&](int i) {
      return memory.sum_at(bins - 1 - static_cast<unsigned>(i));
    });
    if (found.at < 0)
      return {};
    prefix |= (bins - 1 - static_cast<unsigned>(found.at)) << shift;
    known |= (bins - 1) << shift;
    target = found.rest;
    of_key = found.value;
  }
  if (target + each_of(prefix) >= of_key) // all of the last key
    return {prefix, INT64_MAX};
  const auto of_last_key = [&](int64_t i) -> uint64_t {
    const ranked_amount one = look(i);
    return one.key == prefix ? one.amount : 0;
  };
  return {prefix, walk(tokens, target, memory, of_last_key)};
}

} // namespace troupe::gpu::kernels
