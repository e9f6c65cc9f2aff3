#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#include "gpu/cuda/recordings.hpp"
#include "gpu/device.hpp"

namespace troupe::gpu::cuda {

/// Memory that the ops of a queue use one after the other: what was lent for it and, for what does
/// not fit there, a buffer that grows. Freed memory is handed on in the order of the queue, so an
/// op under way may still use what it was given. For one thread at a time.
class scratch_memory {
public:
  using allocator = std::function<caf::expected<buffer>(size_t)>;

  /// `recorded` are the ops that use it.
  scratch_memory(recordings& recorded, allocator allocate)
      : recorded_{recorded}, allocate_{std::move(allocate)} {}

  /// Until other memory is lent; null = none.
  void lend(void* memory, uint64_t size_bytes);
  /// Memory of at least that size for the op that is queued next; `why` says why it cannot be had.
  /// Null without that: ops are being recorded, which is spoiled.
  void* take(uint64_t size_bytes, caf::error& why);
  /// The same for an op that can do without; null if it cannot be had. Having failed it is not
  /// tried again before `memory_was_freed`.
  void* take_spare(uint64_t size_bytes);
  void memory_was_freed() { refused_bytes_ = UINT64_MAX; }
  /// Frees what was allocated, and drops the recordings that use it. False if there is nothing.
  bool drop();

private:
  void* held(uint64_t size_bytes) const;
  caf::error grow(uint64_t size_bytes);

  recordings& recorded_;
  const allocator allocate_;
  void* lent_ = nullptr;
  uint64_t lent_bytes_ = 0;
  buffer own_;
  uint64_t refused_bytes_ = UINT64_MAX; ///< the least that could not be had
};

} // namespace troupe::gpu::cuda
