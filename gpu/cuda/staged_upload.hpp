#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "gpu/cpu/thread_pool.hpp"

namespace troupe::gpu::cuda {

/// Copies large pieces of ordinary host memory to a device. A device reads only pinned memory at
/// the speed of its link, and pinning memory takes longer than copying it: so several lanes, each
/// with a thread, a stream and two slots of pinned memory, take pieces of a copy in turn. A lane
/// fills one slot while the device reads its other one; nothing waits for the device but a lane
/// whose two slots are both being read.
class staged_upload {
public:
  /// Where the machine pins no memory, there are no lanes and `copy` refuses.
  staged_upload(int ordinal, unsigned lanes, size_t slot_bytes);
  ~staged_upload();
  staged_upload(const staged_upload&) = delete;
  staged_upload& operator=(const staged_upload&) = delete;

  explicit operator bool() const { return !lanes_.empty(); }

  /// Queues a copy that happens after all that is queued on `stream` and before all that will be.
  /// The source has been read when this returns. May be called by several threads: one copy waits
  /// for the other to be queued.
  cudaError_t copy(void* to, const void* from, size_t size_bytes, cudaStream_t stream);

private:
  struct slot {
    std::byte* data = nullptr;
    cudaEvent_t read = nullptr; ///< by the device
    bool queued = false;
  };
  struct lane {
    cudaStream_t stream = nullptr;
    cudaEvent_t done = nullptr;
    slot slots[2];
    unsigned next = 0;
    bool used = false; ///< by the copy under way
    cudaError_t failed = cudaSuccess;
  };

  cudaError_t make(lane& to) const;
  void free(lane& one) const;
  void take(lane& by, std::byte* to, const std::byte* from, size_t size_bytes) const;

  const int ordinal_;
  const size_t slot_bytes_;
  std::mutex mutex_;
  cudaEvent_t ready_ = nullptr;
  std::vector<lane> lanes_;
  std::unique_ptr<cpu::thread_pool> threads_;
};

} // namespace troupe::gpu::cuda
