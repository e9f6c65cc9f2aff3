#pragma once
#include <cuda_runtime.h>

#include <cstddef>

namespace troupe::gpu::cuda {

/// Pinned host memory through which small copies to a device go, so that they are asynchronous and
/// their source may change at once. Given out front to back; the owner starts over when the stream
/// has been waited for.
class pinned_ring {
public:
  pinned_ring() = default;
  pinned_ring(const pinned_ring&) = delete;
  pinned_ring& operator=(const pinned_ring&) = delete;
  ~pinned_ring();

  /// Where the machine pins no memory, the ring stays empty and `take` gives nothing.
  void allocate(size_t size_bytes);
  /// `size_bytes` of pinned memory, or null if that much is not left.
  void* take(size_t size_bytes);
  void start_over() { used_ = 0; }
  size_t size_bytes() const { return size_bytes_; }

private:
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
  size_t used_ = 0;
};

} // namespace troupe::gpu::cuda
