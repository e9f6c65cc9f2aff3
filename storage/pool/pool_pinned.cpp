#include <algorithm>
#include <cassert>
#include <utility>

#include "storage/pool/chunk_pool.hpp"

/// How a pool has its memory pinned, so that devices read chunks where they lie. Slots are pinned,
/// not chunks: what is evicted makes room in the same pages, and only those that all exist are
/// pinned, which are never given back before the pool ends. So nothing has to be unpinned while
/// loads go on, and a lease is all that whoever reads needs.
namespace troupe::storage {

using pool_layout::phase;

namespace {

/// Slots that are chosen at a time.
constexpr size_t batch_slots = 64;

} // namespace

void chunk_pool::pin(std::shared_ptr<memory_pinner> by, uint64_t bytes_max,
                     std::function<void(const caf::error&)> failed) {
  assert(!pinner_);
  pinner_ = std::move(by);
  pinned_bytes_max_ = bytes_max;
  pinning_ = std::jthread{[this, failed = std::move(failed)](const std::stop_token& stop) {
    if (const auto why = keep_pinning(stop); why && failed)
      failed(why);
  }};
}

void chunk_pool::begin_load() {
  const std::lock_guard guard{mutex_};
  ++loading_;
  unpinned_.clear(); // what is worth most may be something else after it
}

void chunk_pool::end_load() {
  const std::lock_guard guard{mutex_};
  assert(loading_ > 0);
  if (--loading_ == 0)
    quiet_.notify_one();
}

bool chunk_pool::pins() const {
  const std::lock_guard guard{mutex_};
  return counts_.pinned_bytes > 0;
}

bool chunk_pool::is_pinned(uint32_t slot) const {
  const std::lock_guard guard{mutex_};
  return slots_[slot].pinned;
}

caf::error chunk_pool::keep_pinning(const std::stop_token& stop) {
  run_in_background();
  std::unique_lock guard{mutex_};
  std::optional<uint32_t> slot;
  while (quiet_.wait(guard, stop, [&] { return (slot = take_unpinned()).has_value(); })) {
    guard.unlock();
    // Meanwhile others may fill the slot, or take what it holds away: the pages stay.
    auto why = pinner_->pin({data(*slot), options_.chunk_bytes});
    guard.lock();
    if (why)
      return why;
    slots_[*slot].pinned = true;
    counts_.pinned_bytes += options_.chunk_bytes;
  }
  return {};
}

std::optional<uint32_t> chunk_pool::take_unpinned() {
  // Pinning takes locks of the process's memory, which a load needs, and of its devices.
  if (filling_ > 0 || loading_ > 0 ||
      counts_.pinned_bytes + options_.chunk_bytes > pinned_bytes_max_)
    return std::nullopt;
  if (unpinned_.empty())
    choose_unpinned();
  if (unpinned_.empty())
    return std::nullopt;
  const auto slot = unpinned_.back();
  unpinned_.pop_back();
  return slot;
}

void chunk_pool::choose_unpinned() {
  // What holds the chunks of most worth, then room that the next ones come into.
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::pair<double, uint32_t>> held;
  const auto wanted = [this](uint32_t slot) {
    return !slots_[slot].pinned && record(slot).committed.load() == options_.chunk_bytes;
  };
  for (uint32_t i = 0; i < chunk_count(); ++i)
    if (wanted(i) && record(i).state.load() == phase::ready)
      held.emplace_back(options_.worth(use_of(i, now)), i);
  const auto count = std::min(held.size(), batch_slots);
  std::partial_sort(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(count), held.end(),
                    std::greater{});
  for (size_t i = 0; i < count; ++i)
    unpinned_.push_back(held[i].second);
  for (auto at = free_.rbegin(); at != free_.rend() && unpinned_.size() < batch_slots; ++at)
    if (wanted(*at))
      unpinned_.push_back(*at);
  std::reverse(unpinned_.begin(), unpinned_.end());
}

void chunk_pool::unpin() {
  pinning_ = {};
  for (uint32_t i = 0; i < chunk_count(); ++i)
    if (std::exchange(slots_[i].pinned, false))
      pinner_->unpin({data(i), options_.chunk_bytes});
}

} // namespace troupe::storage
