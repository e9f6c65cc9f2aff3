#include "gpu/cpu/kept_pages.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <system_error>
#include <thread>

#include "gpu/cpu/host_limits.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr size_t page_bytes = size_t{2} << 20;
/// Each may leave a mapping behind, of which the kernel allows 65,530.
constexpr uint32_t moves_max = 16'384;

size_t rounded_up(size_t x) { return (x + page_bytes - 1) / page_bytes * page_bytes; }

std::byte* aligned_up(std::byte* x) {
  return x + (page_bytes - reinterpret_cast<uintptr_t>(x) % page_bytes) % page_bytes;
}

/// Weights are read from end to end in every step: with huge pages the prefetchers do not stop
/// every 4 KiB. Advice only, so it does no harm to neighbours in the same page.
void ask_for_huge_pages(std::byte* data, size_t size_bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(data) / page_bytes * page_bytes;
  const auto end = rounded_up(reinterpret_cast<uintptr_t>(data) + size_bytes);
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

} // namespace

kept_pages::~kept_pages() {
  const std::lock_guard guard{mutex_};
  drop_all();
}

void* kept_pages::map(size_t size_bytes) {
  const auto length = rounded_up(size_bytes);
  void* got = ::mmap(nullptr, length + page_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED)
    return nullptr;
  auto* begin = static_cast<std::byte*>(got);
  auto* data = aligned_up(begin);
  if (data != begin)
    ::munmap(begin, static_cast<size_t>(data - begin));
  if (const auto left = static_cast<size_t>(begin + page_bytes - data); left > 0)
    ::munmap(data + length, left);
  const std::lock_guard guard{mutex_};
  blocks_[data] = {length, 0};
  return data;
}

void kept_pages::fill(void* data, size_t size_bytes) {
  auto* to = static_cast<std::byte*>(data);
  ask_for_huge_pages(to, size_bytes);
  const std::lock_guard guard{mutex_};
  auto at = blocks_.upper_bound(to);
  if (at == blocks_.begin() || (--at, to >= at->first + at->second.size_bytes))
    return;
  at->second.filled_bytes += size_bytes;
  // A page that is shared with a neighbouring range may hold something already.
  auto* first = aligned_up(to);
  auto* last = to + size_bytes - reinterpret_cast<uintptr_t>(to + size_bytes) % page_bytes;
  if (first < last)
    move_pages(first, static_cast<size_t>(last - first));
}

void kept_pages::move_pages(std::byte* to, size_t size_bytes) {
  while (size_bytes > 0 && !kept_.empty()) {
    auto& from = kept_.back();
    auto length = std::min(size_bytes, from.size_bytes);
    // From the end, so that what is left stays one range.
    const auto move = [&] {
      return ::mremap(from.data + from.size_bytes - length, length, length,
                      MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED;
    };
    // Pages that came together may be several mappings, which older kernels move one by one.
    while (moves_ < moves_max && !move() && length > 0)
      length = length / 2 / page_bytes * page_bytes;
    if (length == 0 || moves_ == moves_max)
      return drop_all(); // too many mappings: fresh pages do as well
    ++moves_;
    kept_bytes_ -= length;
    from.size_bytes -= length;
    if (from.size_bytes == 0)
      kept_.pop_back();
    to += length;
    size_bytes -= length;
    last_use_ = clock::now();
  }
}

void kept_pages::unmap(void* data, size_t) {
  auto* begin = static_cast<std::byte*>(data);
  const std::lock_guard guard{mutex_};
  const auto at = blocks_.find(begin);
  const auto x = at->second;
  blocks_.erase(at);
  if (blocks_.empty())
    moves_ = 0;
  if (!may_keep(x)) {
    ::munmap(begin, x.size_bytes);
    return;
  }
  kept_.push_back({begin, x.size_bytes});
  kept_bytes_ += x.size_bytes;
  last_use_ = clock::now();
  watch();
}

bool kept_pages::may_keep(const block& x) const {
  return x.filled_bytes >= x.size_bytes / 2 &&
         kept_bytes_ + x.size_bytes <= host_available_bytes() / 2;
}

void kept_pages::watch() {
  if (watched_ || weak_from_this().expired())
    return;
  try {
    // Nobody joins it: it holds nothing, and may sleep on after the device is gone.
    std::thread{[me = weak_from_this(), keep = keep_] {
      for (;;) {
        std::this_thread::sleep_for(keep);
        const auto pages = me.lock();
        if (!pages)
          return;
        pages->expire(clock::now());
        const std::lock_guard guard{pages->mutex_};
        if (pages->kept_.empty()) {
          pages->watched_ = false;
          return;
        }
      }
    }}.detach();
    watched_ = true;
  } catch (const std::system_error&) {
    drop_all();
  }
}

void kept_pages::expire(clock::time_point now) {
  const std::lock_guard guard{mutex_};
  if (now - last_use_ >= keep_)
    drop_all();
}

void kept_pages::drop_all() {
  for (const auto& one : kept_)
    ::munmap(one.data, one.size_bytes);
  kept_.clear();
  kept_bytes_ = 0;
}

size_t kept_pages::kept_bytes() const {
  const std::lock_guard guard{mutex_};
  return kept_bytes_;
}

} // namespace troupe::gpu::cpu
