#include "gpu/cuda/scratch_memory.hpp"

namespace troupe::gpu::cuda {

void scratch_memory::lend(void* memory, uint64_t size_bytes) {
  lent_ = memory;
  lent_bytes_ = memory != nullptr ? size_bytes : 0;
}

void* scratch_memory::held(uint64_t size_bytes) const {
  if (lent_ != nullptr && size_bytes <= lent_bytes_)
    return lent_;
  return size_bytes <= own_.size_bytes() ? own_.data() : nullptr;
}

void* scratch_memory::take(uint64_t size_bytes, caf::error& why) {
  if (void* there = held(size_bytes))
    return there;
  why = grow(size_bytes);
  return held(size_bytes);
}

void* scratch_memory::take_spare(uint64_t size_bytes) {
  void* there = held(size_bytes);
  if (there != nullptr || size_bytes >= refused_bytes_)
    return there;
  if (grow(size_bytes))
    refused_bytes_ = size_bytes;
  return held(size_bytes);
}

caf::error scratch_memory::grow(uint64_t size_bytes) {
  if (recorded_.is_recording()) { // the ops of the same sizes before should have had as much
    recorded_.spoil();
    return {};
  }
  drop();
  auto grown = allocate_(size_bytes + size_bytes / 2);
  if (!grown)
    grown = allocate_(size_bytes);
  if (!grown)
    return grown.error();
  own_ = std::move(*grown);
  return {};
}

bool scratch_memory::drop() {
  if (!own_)
    return false;
  recorded_.forget_all();
  own_ = {};
  return true;
}

} // namespace troupe::gpu::cuda
