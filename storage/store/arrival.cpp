#include "storage/store/arrival.hpp"

#include <algorithm>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

arrival::~arrival() {
  fail(caf::make_error(errc::cancelled, "fetching " + place_.string() + " was given up"));
}

bool arrival::is_there(byte_range range) const { return file_ && there_.has(range); }

bool arrival::has(byte_range range) const {
  const std::lock_guard guard{mutex_};
  return why_ || is_there(range);
}

void arrival::when_there(byte_range range, told then) {
  caf::error why;
  {
    const std::lock_guard guard{mutex_};
    if (!why_ && !is_there(range)) {
      waiting_.emplace(range.offset, waiter{range.length, std::move(then)});
      return;
    }
    why = why_;
  }
  then(std::move(why));
}

caf::error arrival::wait(byte_range range, const std::stop_token& stop) const {
  std::unique_lock guard{mutex_};
  if (!changed_.wait(guard, stop, [&] { return why_ || is_there(range); }))
    return caf::make_error(errc::cancelled, "waiting for " + place_.string() + ": cancelled");
  return why_;
}

void arrival::when_checked(told then) {
  caf::error why;
  {
    const std::lock_guard guard{mutex_};
    if (!why_ && !checked_) {
      for_check_.push_back(std::move(then));
      return;
    }
    why = why_;
  }
  then(std::move(why));
}

void arrival::when_settled(std::function<void()> then) {
  {
    const std::lock_guard guard{mutex_};
    if (why_)
      return;
    if (!settled_) {
      for_place_.push_back(std::move(then));
      return;
    }
  }
  then();
}

caf::error arrival::why() const {
  const std::lock_guard guard{mutex_};
  return why_;
}

bool arrival::is_elsewhere() const {
  const std::lock_guard guard{mutex_};
  return elsewhere_ && !file_;
}

std::shared_ptr<const disk_file> arrival::file() const {
  const std::lock_guard guard{mutex_};
  return file_;
}

file_identity arrival::identity() const {
  const std::lock_guard guard{mutex_};
  return identity_;
}

/// Who waited for what is there now around `offset`; with the mutex held.
std::vector<arrival::told> arrival::take_ready(uint64_t offset) {
  std::vector<told> out;
  const auto here = there_.around(offset);
  if (!here)
    return out;
  const auto end = here->offset + here->length;
  for (auto at = waiting_.lower_bound(here->offset); at != waiting_.end() && at->first < end;) {
    if (at->second.length > end - at->first) {
      ++at;
      continue;
    }
    out.push_back(std::move(at->second.then));
    at = waiting_.erase(at);
  }
  return out;
}

caf::error arrival::begin(int fd, std::optional<int64_t> stamp_ns, const range_set& there) {
  // Just written, they lie in the page cache.
  auto file = disk_file::of(fd, place_, false);
  if (!file)
    return std::move(file.error());
  std::vector<told> ready;
  {
    const std::lock_guard guard{mutex_};
    identity_ = (*file)->identity();
    identity_.modified_ns = stamp_ns.value_or(identity_.modified_ns);
    file_ = std::move(*file);
    there_ = there;
    for (const auto& gap : there.missing(UINT64_MAX, UINT64_MAX))
      if (gap.offset > 0)
        for (auto& one : take_ready(gap.offset - 1))
          ready.push_back(std::move(one));
    changed_.notify_all();
  }
  for (const auto& one : ready)
    one({});
  return {};
}

void arrival::came(byte_range range) {
  std::vector<told> ready;
  {
    const std::lock_guard guard{mutex_};
    if (why_)
      return;
    there_.add(range);
    ready = take_ready(range.offset);
    changed_.notify_all();
  }
  for (const auto& one : ready)
    one({});
}

void arrival::elsewhere() {
  const std::lock_guard guard{mutex_};
  elsewhere_ = true;
}

void arrival::checked() {
  std::vector<told> ready;
  {
    const std::lock_guard guard{mutex_};
    if (why_)
      return;
    checked_ = true;
    ready.swap(for_check_);
  }
  for (const auto& one : ready)
    one({});
}

void arrival::settled() {
  std::vector<std::function<void()>> ready;
  {
    const std::lock_guard guard{mutex_};
    if (why_)
      return;
    settled_ = true;
    ready.swap(for_place_);
  }
  for (const auto& one : ready)
    one();
}

void arrival::fail(caf::error why) {
  std::vector<told> lost;
  {
    const std::lock_guard guard{mutex_};
    if (why_ || checked_)
      return; // what is right stays so
    why_ = why;
    for (auto& [offset, one] : std::exchange(waiting_, {}))
      lost.push_back(std::move(one.then));
    std::move(for_check_.begin(), for_check_.end(), std::back_inserter(lost));
    for_check_.clear();
    for_place_.clear();
    changed_.notify_all();
  }
  for (const auto& one : lost)
    one(why);
}

std::shared_ptr<arrival> arriving_model::find(const std::filesystem::path& place) const {
  const auto at = std::find_if(files_.begin(), files_.end(),
                               [&](const auto& one) { return one->place() == place; });
  return at == files_.end() ? nullptr : *at;
}

std::filesystem::path arriving_model::elsewhere(const std::filesystem::path& place) const {
  const auto found = find(place);
  const auto file = found ? found->file() : nullptr;
  // By the descriptor: the name may change at any moment.
  return file ? std::filesystem::path{"/proc/self/fd"} / std::to_string(file->buffered_fd())
              : std::filesystem::path{};
}

void arriving_model::prefer(const std::vector<wish>& order) const {
  // Held while it is carried out: what fetches must not go away meanwhile.
  const std::lock_guard guard{mutex_};
  if (prefer_)
    prefer_(order);
}

void arriving_model::fetched_by(std::function<void(const std::vector<wish>&)> prefer) {
  const std::lock_guard guard{mutex_};
  prefer_ = std::move(prefer);
}

void arriving_model::fail(const caf::error& why) {
  for (const auto& one : files_)
    one->fail(why);
}

} // namespace troupe::storage
