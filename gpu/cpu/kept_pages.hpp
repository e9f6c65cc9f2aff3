#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace troupe::gpu::cpu {

/// Memory for large tensors whose pages outlive them for a while.
///
/// Clearing fresh pages takes the kernel as long as it takes to load weights into them, or several
/// times that in a virtual machine whose host has to find them first. So the pages of weights that
/// are released wait for the next ones: they are moved to where those lie, at the speed of page
/// tables (mremap). Only blocks that were filled give pages, and only those that are being filled
/// get them, as a KV cache may never be touched. Each device has its own, because memory belongs to
/// the NUMA node whose threads touched it first. All functions may be called from any thread.
class kept_pages : public std::enable_shared_from_this<kept_pages> {
public:
  using clock = std::chrono::steady_clock;
  /// Smaller blocks are better off on the heap.
  static constexpr size_t smallest_block_bytes = size_t{8} << 20;

  /// Pages that nobody wanted for that long go back to the machine, by themselves if this is owned
  /// by a shared pointer.
  explicit kept_pages(clock::duration keep = std::chrono::seconds{20}) : keep_{keep} {}
  ~kept_pages();
  kept_pages(const kept_pages&) = delete;
  kept_pages& operator=(const kept_pages&) = delete;

  /// Aligned to 2 MiB; null if there are no addresses left.
  void* map(size_t size_bytes);
  /// Says that a range, which may lie in a block, is about to be written, all of it, for the first
  /// time: puts pages there. Any other range is left alone, but for asking for huge pages.
  void fill(void* data, size_t size_bytes);
  /// Gives a block back, or keeps its pages as long as the machine has much more to give.
  void unmap(void* data, size_t size_bytes);

  /// Lets pages go that were kept for too long at `now`.
  void expire(clock::time_point now);
  size_t kept_bytes() const;

private:
  struct extent {
    std::byte* data = nullptr;
    size_t size_bytes = 0;
  };
  struct block {
    size_t size_bytes = 0, filled_bytes = 0;
  };
  // With the mutex held:
  void move_pages(std::byte* to, size_t size_bytes);
  bool may_keep(const block& x) const;
  void drop_all();
  void watch();

  const clock::duration keep_;
  mutable std::mutex mutex_;
  std::map<const std::byte*, block> blocks_;
  std::vector<extent> kept_;
  size_t kept_bytes_ = 0;
  uint32_t moves_ = 0; ///< since there was no block
  clock::time_point last_use_{};
  bool watched_ = false;
};

} // namespace troupe::gpu::cpu
