#pragma once
#include "gpu/cpu/kept_pages.hpp"
#include "gpu/device.hpp"

namespace troupe::gpu::cpu {

/// What every CPU backend shares: memory is ordinary host memory and ops are done when they return.
class host_device : public device {
public:
  /// Hands out at most `memory_bytes`, or what the host has where that is less or 0 is given.
  explicit host_device(uint64_t memory_bytes = 0);
  uint64_t memory_bytes() const final { return memory_bytes_; }
  bool reads_host_memory() const final { return true; }
  bool keeps_kv(dtype type) const final { return type == dtype::i8 || device::keeps_kv(type); }
  bool takes(dtype type) const override { return is_blocks(type) || device::takes(type); }
  caf::expected<buffer> allocate(size_t size_bytes) final;
  void copy_to_device(void* to, const void* from, size_t size_bytes) final;
  void copy_to_host(void* to, const void* from, size_t size_bytes) final;
  void copy(void* to, const void* from, size_t size_bytes) final;
  caf::error synchronize() final { return caf::none; }

protected:
  kept_pages& pages() { return *pages_; }
  /// For another queue of the same device, before anything is allocated there.
  void share_pages(const host_device& other) { pages_ = other.pages_; }

private:
  void release(void* data, size_t size_bytes) noexcept final;

  uint64_t memory_bytes_ = 0;
  /// Kept because the kernel overcommits: without a count of our own, too much memory would be
  /// granted now and the process killed when it is touched.
  uint64_t allocated_bytes_ = 0;
  std::shared_ptr<kept_pages> pages_ = std::make_shared<kept_pages>();
};

} // namespace troupe::gpu::cpu
