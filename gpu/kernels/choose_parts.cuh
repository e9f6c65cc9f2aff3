#pragma once
#include <cuda_runtime.h>

#include "gpu/choice_math.hpp"
#include "gpu/choose.hpp"
#include "gpu/kernels/device_math.cuh"
#include "gpu/kernels/launch.cuh"

/// What the kernels of `choose` share.
namespace troupe::gpu::kernels {

/// Logits of a row that one block looks at, where several blocks share the row.
constexpr int64_t choose_part = 4096;
constexpr unsigned choose_part_threads = 256;
/// Of a block that has a row for itself.
constexpr unsigned choose_row_threads = 1024;

/// What the blocks of a row leave for one another; each [rows, parts].
struct choose_partials {
  int64_t parts = 0;
  uint64_t* highest = nullptr; ///< `ranked` of the logits as they came
  uint64_t* edited = nullptr;  ///< and of the edited ones, of rows with edits
  uint64_t* raw_mass = nullptr;
  uint64_t* mass = nullptr;

  static constexpr int arrays = 4;
};

/// Bits that order as floats do; -0 is 0, NaN is above all.
__device__ inline uint32_t ordered(float x) {
  if (x != x)
    return 0xffffffffu;
  const auto bits = x == 0 ? 0u : std::bit_cast<uint32_t>(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float unordered(uint32_t key) {
  return std::bit_cast<float>(key >> 31 ? key & 0x7fffffffu : ~key);
}

/// Of two tokens the one with the higher logit ranks higher, of equal ones the first.
__device__ inline uint64_t ranked(float logit, int64_t token) {
  return static_cast<uint64_t>(ordered(logit)) << 32 | (0xffffffffu - static_cast<uint32_t>(token));
}
__device__ inline float logit_of(uint64_t rank) {
  return unordered(static_cast<uint32_t>(rank >> 32));
}
__device__ inline int32_t token_of(uint64_t rank) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(rank));
}
/// Whether a row with that highest logit can be drawn from.
__device__ inline bool is_finite_rank(uint64_t rank) {
  const auto key = static_cast<uint32_t>(rank >> 32);
  return key != 0xffffffffu && key < 0xff800000u && key > 0x007fffffu;
}

/// Of a block's threads, for all of them; `memory` is 32 words of shared memory.
template <class Join>
__device__ uint64_t join_block(uint64_t own, uint64_t* memory, const Join& join) {
  for (unsigned step = warp_threads / 2; step > 0; step /= 2)
    own = join(own, __shfl_xor_sync(all_lanes, own, step));
  __syncthreads(); // whoever still reads what was there
  if (threadIdx.x % warp_threads == 0)
    memory[threadIdx.x / warp_threads] = own;
  __syncthreads();
  uint64_t out = memory[0];
  for (unsigned i = 1; i < blockDim.x / warp_threads; ++i)
    out = join(out, memory[i]);
  return out;
}
__device__ inline uint64_t block_sum(uint64_t own, uint64_t* memory) {
  return join_block(own, memory, [](uint64_t a, uint64_t b) { return a + b; });
}
__device__ inline uint64_t block_max(uint64_t own, uint64_t* memory) {
  return join_block(own, memory, [](uint64_t a, uint64_t b) { return a < b ? b : a; });
}

__device__ inline uint64_t highest_of_parts(const uint64_t* of_row, int64_t parts,
                                            uint64_t* memory) {
  uint64_t best = 0;
  for (int64_t i = threadIdx.x; i < parts; i += blockDim.x)
    best = max(best, of_row[i]);
  return block_max(best, memory);
}
__device__ inline uint64_t sum_of_parts(const uint64_t* of_row, int64_t parts, uint64_t* memory) {
  uint64_t all = 0;
  for (int64_t i = threadIdx.x; i < parts; i += blockDim.x)
    all += of_row[i];
  return block_sum(all, memory);
}

/// Whether the row's tokens are cut by rank, so that its weights are looked at again and again.
__device__ inline bool is_cut(const choose_row& how, int64_t vocabulary) {
  return (how.top_k > 0 && how.top_k < vocabulary) || how.top_p < 1.0f;
}
/// Whether the row's logits give way to its weights.
__device__ inline bool keeps_weights(const choose_row& how, int64_t vocabulary) {
  return how.top < 0 && is_cut(how, vocabulary);
}

/// One block for each row: names the highest logits; before edits.
cudaError_t launch_choose_tops(const choose_args& args, const choose_partials& partials,
                               cudaStream_t stream);
/// One block for each row: the choice itself.
cudaError_t launch_choose_ends(const choose_args& args, const choose_partials& partials,
                               cudaStream_t stream);

} // namespace troupe::gpu::kernels
