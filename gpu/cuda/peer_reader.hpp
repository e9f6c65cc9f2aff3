#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <vector>

namespace troupe::gpu::cuda {

/// Copies into one device from the memory of others of this process, over NVLink or PCIe where the
/// hardware lets it read there. Where it does not, CUDA goes through the host: slower, and as
/// right.
class peer_reader {
public:
  explicit peer_reader(int ordinal) : ordinal_{ordinal} {}

  /// Queues a copy from memory that device `other` allocated from its default pool.
  cudaError_t copy(void* to, const void* from, int other, size_t size_bytes, cudaStream_t stream);

private:
  void open(int other);

  const int ordinal_;
  std::vector<int> opened_; ///< devices whose pools this one reads, or cannot
};

} // namespace troupe::gpu::cuda
