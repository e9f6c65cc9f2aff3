#include <sys/resource.h>

#include <cassert>

#include "storage/pool/chunk_pool.hpp"

/// How a pool keeps memory ready, so that no load waits until the kernel has cleared it.
namespace troupe::storage {

using pool_layout::phase;

namespace {

/// What others compute goes first, unless they do nothing.
constexpr int background_nice = 10;

} // namespace

void chunk_pool::end_filling() {
  assert(filling_ > 0);
  if (--filling_ == 0) {
    unready_.notify_one();
    quiet_.notify_one();
  }
}

std::optional<uint32_t> chunk_pool::take_unready() {
  // A load makes what it needs itself: whoever made more beside it would be in its way.
  if (filling_ > 0 || !barren_.empty())
    return std::nullopt;
  uint64_t ready = 0;
  for (auto at = free_.end(); at != free_.begin() && ready < options_.ready_bytes;) {
    const auto slot = *--at;
    const auto committed = record(slot).committed.load();
    if (committed < options_.chunk_bytes) {
      free_.erase(at);
      record(slot).state.store(phase::filling, std::memory_order_release);
      return slot;
    }
    ready += committed;
  }
  return std::nullopt;
}

void chunk_pool::run_in_background() {
  // Of this thread alone, as Linux has it.
  ::setpriority(PRIO_PROCESS, 0, background_nice);
}

void chunk_pool::keep_ready(const std::stop_token& stop) {
  run_in_background();
  std::unique_lock guard{mutex_};
  std::optional<uint32_t> slot;
  while (unready_.wait(guard, stop, [&] { return (slot = take_unready()).has_value(); })) {
    guard.unlock();
    const auto why = region_.prepare(region_offset(*slot), options_.chunk_bytes);
    if (why)
      region_.punch(region_offset(*slot), options_.chunk_bytes);
    guard.lock();
    auto& x = record(*slot);
    x.committed = why ? 0 : options_.chunk_bytes;
    x.state.store(phase::empty, std::memory_order_release);
    if (why)
      free_.insert(free_.begin(), *slot);
    else
      free_.push_back(*slot);
    quiet_.notify_one();
    guard.unlock();
    tell_room(); // somebody may have found this slot gone
    if (why)
      return; // the machine has no memory to spare
    guard.lock();
  }
}

void chunk_pool::give_back_ready() {
  const std::lock_guard guard{mutex_};
  for (const auto slot : free_)
    if (auto& x = record(slot); x.committed > 0) {
      // Not known to be there before it is gone.
      x.committed = 0;
      region_.punch(region_offset(slot), options_.chunk_bytes);
    }
}

} // namespace troupe::storage
