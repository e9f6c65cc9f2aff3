#include "gpu/cuda/pinned_ring.hpp"

namespace troupe::gpu::cuda {

pinned_ring::~pinned_ring() {
  if (data_ != nullptr)
    cudaFreeHost(data_);
}

void pinned_ring::allocate(size_t size_bytes) {
  void* data = nullptr;
  if (cudaMallocHost(&data, size_bytes) != cudaSuccess) {
    cudaGetLastError(); // copies then go straight from pageable memory
    return;
  }
  data_ = static_cast<std::byte*>(data);
  size_bytes_ = size_bytes;
}

void* pinned_ring::take(size_t size_bytes) {
  constexpr size_t alignment = 64;
  const size_t rounded = (size_bytes + alignment - 1) / alignment * alignment;
  if (rounded > size_bytes_ - used_)
    return nullptr;
  void* out = data_ + used_;
  used_ += rounded;
  return out;
}

} // namespace troupe::gpu::cuda
