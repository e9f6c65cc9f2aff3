#include "gpu/cpu/host_device.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "gpu/cpu/host_limits.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr size_t alignment = 64;

/// Whether memory of that size comes from `kept_pages`. Checkers of addresses know the heap alone.
bool is_large([[maybe_unused]] size_t size_bytes) {
#ifdef __SANITIZE_ADDRESS__
  return false;
#else
  return size_bytes >= kept_pages::smallest_block_bytes;
#endif
}

} // namespace

host_device::host_device(uint64_t memory_bytes) : memory_bytes_{host_memory_bytes()} {
  if (memory_bytes != 0)
    memory_bytes_ = std::min(memory_bytes_, memory_bytes);
}

caf::expected<buffer> host_device::allocate(size_t size_bytes) {
  const uint64_t room = memory_bytes_ - std::min(allocated_bytes_, memory_bytes_);
  void* data = nullptr;
  if (size_bytes <= room) {
    const size_t rounded =
        std::max((size_bytes + alignment - 1) / alignment, size_t{1}) * alignment;
    data = is_large(size_bytes) ? pages_->map(size_bytes) : std::aligned_alloc(alignment, rounded);
  }
  if (data == nullptr)
    return caf::make_error(errc::out_of_memory,
                           "allocating " + std::to_string(size_bytes) + " bytes on " + name() +
                               ": " + std::to_string(allocated_bytes_) + " of " +
                               std::to_string(memory_bytes_) +
                               " bytes are in use; load a smaller model or lower the KV memory");
  allocated_bytes_ += size_bytes;
  return buffer{this, data, size_bytes};
}

void host_device::release(void* data, size_t size_bytes) noexcept {
  if (is_large(size_bytes))
    pages_->unmap(data, size_bytes);
  else
    std::free(data);
  allocated_bytes_ -= size_bytes;
}

void host_device::copy_to_device(void* to, const void* from, size_t size_bytes) {
  if (size_bytes > 0)
    std::memcpy(to, from, size_bytes);
}

void host_device::copy_to_host(void* to, const void* from, size_t size_bytes) {
  if (size_bytes > 0)
    std::memcpy(to, from, size_bytes);
}

void host_device::copy(void* to, const void* from, size_t size_bytes) {
  if (size_bytes > 0)
    std::memcpy(to, from, size_bytes);
}

} // namespace troupe::gpu::cpu
