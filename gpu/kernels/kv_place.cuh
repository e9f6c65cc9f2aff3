#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

namespace troupe::gpu::kernels {

/// Where a token's keys and values in one head are: `row` counts those in the block.
struct kv_place {
  std::byte* block = nullptr;
  int64_t row = 0;
};

__device__ inline kv_place place_of(const kv_cache_view& cache, int64_t block, int64_t head,
                                    int64_t offset) {
  return {block_at(cache, block), head * cache.block_size + offset};
}

/// One of a block's parts, by its offset in the view.
template <class T>
__device__ inline T* part_of(const kv_place& place, int64_t offset) {
  return reinterpret_cast<T*>(place.block + offset);
}

} // namespace troupe::gpu::kernels
