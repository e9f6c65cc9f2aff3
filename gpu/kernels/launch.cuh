#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

namespace troupe::gpu::kernels {

/// Queues `kernel` on `stream`. An empty grid is a launch error in CUDA, so it is nothing here.
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, unsigned threads, cudaStream_t stream,
                   A&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0)
    return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3{threads, 1, 1};
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<A>(args)...);
}

/// Blocks of `size` that hold `count` things.
constexpr unsigned blocks_for(int64_t count, int64_t size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

} // namespace troupe::gpu::kernels
