#include "gpu/cuda/peer_reader.hpp"

#include <algorithm>

namespace troupe::gpu::cuda {

cudaError_t peer_reader::copy(void* to, const void* from, int other, size_t size_bytes,
                              cudaStream_t stream) {
  open(other);
  return cudaMemcpyPeerAsync(to, ordinal_, from, other, size_bytes, stream);
}

/// What a pool gives out follows the pool's own access rights, not cudaDeviceEnablePeerAccess. Only
/// asked for once there is something to read, as it makes a context on both devices.
void peer_reader::open(int other) {
  if (other == ordinal_ || std::ranges::find(opened_, other) != opened_.end())
    return;
  opened_.push_back(other);
  int can = 0;
  cudaMemPool_t pool = nullptr;
  if (cudaDeviceCanAccessPeer(&can, ordinal_, other) == cudaSuccess && can != 0 &&
      cudaDeviceGetDefaultMemPool(&pool, other) == cudaSuccess) {
    cudaMemAccessDesc reader{};
    reader.location = {cudaMemLocationTypeDevice, ordinal_};
    reader.flags = cudaMemAccessFlagsProtReadWrite;
    cudaMemPoolSetAccess(pool, &reader, 1);
  }
  cudaGetLastError(); // without the right the copy takes the other way
}

} // namespace troupe::gpu::cuda
