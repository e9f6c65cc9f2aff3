#include "storage/pipeline/load.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

void waker::wake() {
  {
    const std::lock_guard guard{mutex_};
    woken_ = true;
  }
  signal_.notify_one();
}

void waker::wait() {
  std::unique_lock guard{mutex_};
  signal_.wait(guard, [this] { return woken_; });
  woken_ = false;
}

load::load(load_plan plan, load_events events, load_priority priority, instant began,
           std::shared_ptr<waker> conductor, uint32_t chunk_bytes)
    : plan_{std::move(plan)}, events_{std::move(events)}, began_{began},
      conductor_{std::move(conductor)}, priority_{priority} {
  cut(chunk_bytes);
}

void load::cut(uint32_t chunk_bytes) {
  std::map<std::pair<uint32_t, uint64_t>, size_t> known;
  missing_.resize(plan_.ranges.size());
  for (uint32_t i = 0; i < plan_.ranges.size(); ++i) {
    const auto& range = plan_.ranges[i];
    if (range.length == 0)
      continue;
    const auto size = plan_.files[range.file].origin->size_bytes();
    const auto last = range.offset + range.length;
    for (auto at = range.offset / chunk_bytes * chunk_bytes; at < last; at += chunk_bytes) {
      const auto [found, fresh] = known.emplace(std::pair{range.file, at}, chunks_.size());
      if (fresh) {
        const auto length = static_cast<uint32_t>(std::min<uint64_t>(chunk_bytes, size - at));
        chunks_.push_back({.file = range.file, .offset = at, .length = length, .ranges = {}});
        counts_.total_bytes += length;
      }
      chunks_[found->second].ranges.push_back(i);
      ++missing_[i];
    }
  }
}

void load::cancel() {
  {
    // With everything delivered there is nothing to stop, and what was learned shall be kept.
    const std::lock_guard guard{mutex_};
    if (counts_.pool_bytes + counts_.disk_bytes == counts_.total_bytes)
      return;
  }
  fail(caf::make_error(errc::cancelled, "the load was cancelled"));
}

void load::set_priority(load_priority priority) {
  priority_ = priority;
  conductor_->wake();
}

void load::let_go(uint32_t chunks) {
  let_go_ += chunks;
  conductor_->wake();
}

bool load::may_go_on() const {
  // Who passes through a small pool must not fill it with what is needed later.
  return asked_ < chunks_.size() &&
         (any_order() || (parked_ == 0 && asked_ - let_go_.load() < plan_.held_max));
}

bool load::park(size_t index) {
  const auto& chunk = chunks_[index];
  const auto tell = [arrived = arrived_, conductor = conductor_, index] {
    {
      const std::lock_guard guard{arrived->mutex};
      arrived->chunks.push_back(index);
    }
    conductor->wake();
  };
  if (plan_.files[chunk.file].origin->is_there(chunk.offset, chunk.length, tell))
    return false;
  ++parked_;
  return true;
}

void load::take_arrived() {
  const std::lock_guard guard{arrived_->mutex};
  parked_ -= arrived_->chunks.size();
  again_.insert(again_.end(), arrived_->chunks.begin(), arrived_->chunks.end());
  arrived_->chunks.clear();
}

load_counts load::counts() const {
  const std::lock_guard guard{mutex_};
  return counts_;
}

void load::fail(caf::error why) {
  {
    const std::lock_guard guard{mutex_};
    if (!why_)
      why_ = std::move(why);
    stopped_ = true;
  }
  conductor_->wake();
}

bool load::over() const {
  return pending_ == 0 &&
         (stopped_ || (asked_ == chunks_.size() && again_.empty() && parked_ == 0));
}

void load::deliver(size_t index, chunk_lease lease, chunk_place from) {
  const std::lock_guard turn{delivery_};
  if (stopped_)
    return;
  const auto& chunk = chunks_[index];
  {
    const std::lock_guard guard{mutex_};
    (from == chunk_place::pool ? counts_.pool_bytes : counts_.disk_bytes) += chunk.length;
    counts_.cached_bytes += from == chunk_place::page_cache ? chunk.length : 0;
  }
  if (events_.chunk)
    if (auto why = events_.chunk({chunk.file, chunk.offset, std::move(lease)}))
      return fail(std::move(why));
  arrived_bytes_ += chunk.length;
  for (const auto range : chunk.ranges)
    --missing_[range];
  while (complete_ < missing_.size() && missing_[complete_] == 0)
    ++complete_;
  if (events_.progress)
    events_.progress(complete_, arrived_bytes_);
}

} // namespace troupe::storage
