#include "storage/store/download.hpp"

#include <algorithm>
#include <thread>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// A file that changes or arrives damaged more often than this is not worth another attempt.
constexpr unsigned restarts_max = 3;
/// Written down so often: what a killed process has to fetch again, for each connection.
constexpr size_t journal_step_bytes = size_t{256} << 10;
constexpr auto tell_pause = std::chrono::milliseconds{50};

} // namespace

void download::add(const source_file& file) {
  auto one = std::make_unique<entry>();
  one->job = std::make_unique<file_job>(file, to_.place(file));
  one->now = to_.has(file) ? state::done : state::waiting;
  entries_.push_back(std::move(one));
}

uint64_t download::missing_bytes() const {
  uint64_t out = 0;
  for (const auto& one : entries_)
    if (one->now != state::done)
      out += one->job->file().size_bytes - bytes_already_there(one->job->file(), one->job->place());
  return out;
}

std::vector<source_file> download::files() const {
  std::vector<source_file> out;
  for (const auto& one : entries_)
    out.push_back(one->job->file());
  return out;
}

caf::error download::run(std::stop_token stop) {
  const std::stop_callback halt{stop, [this] { halt_.request_stop(); }};
  {
    std::vector<std::jthread> workers;
    const auto useful = std::min<size_t>(std::max(1u, how_.connections), 256);
    for (size_t i = 0; i < useful; ++i)
      workers.emplace_back([this] { work(halt_.get_token()); });
  }
  if (!failed_ && stop.stop_requested())
    return caf::make_error(errc::cancelled, "fetching " + from_.name() + ": cancelled");
  tell(true);
  return failed_;
}

void download::work(const std::stop_token& stop) {
  std::unique_lock guard{mutex_};
  part mine;
  while (next(mine, guard, stop)) {
    guard.unlock();
    auto& of = *mine.of;
    auto why = mine.open ? open(of, stop) : fetch(of, mine.range, stop);
    // A file that could not be opened is never fetched; one that could not be read may be.
    why = mine.open && why ? why : after_part(of, why, stop);
    if (why)
      fail(why);
    guard.lock();
  }
}

caf::error download::open(entry& of, const std::stop_token& stop) {
  if (auto why = of.job->lock(stop))
    return why;
  {
    // Between these two looks nobody may carry the file away.
    auto quiet = to_.hold_publishing(stop);
    if (!quiet)
      return std::move(quiet.error());
    if (auto why = of.job->open(to_.has(of.job->file())))
      return why;
  }
  const std::lock_guard guard{mutex_};
  if (!of.job->ready()) {
    const auto missing = of.job->missing(how_.part_bytes);
    of.todo.assign(missing.begin(), missing.end());
  }
  of.now = state::running;
  return {};
}

/// The next thing to do, in the order of the files; false when there is nothing left.
bool download::next(part& out, std::unique_lock<std::mutex>& guard, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    bool left = false;
    for (const auto& one : entries_) {
      left = left || one->now != state::done;
      if (one->now == state::waiting) {
        one->now = state::opening;
        ++one->open_parts;
        out = {one.get(), {}, true};
        return true;
      }
      if (one->now == state::running && !one->restart && !one->todo.empty()) {
        out = {one.get(), one->todo.front(), false};
        one->todo.pop_front();
        ++one->open_parts;
        return true;
      }
    }
    if (!left)
      return false;
    changed_.wait(guard, stop, [this, seen = events_] { return events_ != seen; });
  }
  return false;
}

caf::error download::fetch(entry& of, byte_range range, const std::stop_token& stop) {
  const auto file = of.job->file();
  std::vector<std::byte> held;
  held.reserve(journal_step_bytes);
  auto at = range.offset;
  const auto flush = [&]() -> caf::error {
    auto why = of.job->write(at, held);
    at += held.size();
    held.clear();
    if (!why)
      tell(false);
    return why;
  };
  const auto keep = [&](std::span<const std::byte> piece) -> caf::error {
    while (!piece.empty()) {
      const auto fits = std::min(piece.size(), journal_step_bytes - held.size());
      held.insert(held.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(fits));
      piece = piece.subspan(fits);
      if (held.size() == journal_step_bytes)
        if (auto why = flush())
          return why;
    }
    return {};
  };
  auto why = stream_with_retries(from_, file, range, keep, how_.retries, stop);
  auto wrote = flush(); // also what came before a failure
  if (!why && !wrote)
    wrote = of.job->advance_checksum(stop);
  return why ? why : wrote;
}

/// Books a part that has come back, and does what can be done once none of the file is open.
caf::error download::after_part(entry& of, const caf::error& why, const std::stop_token& stop) {
  std::unique_lock guard{mutex_};
  --of.open_parts;
  if (why == errc::changed || why == errc::unsupported) {
    of.restart = true;
    of.ask_again = of.ask_again || why == errc::changed;
    if (of.restarts == restarts_max)
      return why;
  } else if (why) {
    return why;
  }
  if (of.open_parts > 0 || (!of.restart && !of.todo.empty())) {
    signal();
    return {};
  }
  of.now = state::finishing;
  const bool again = of.restart;
  guard.unlock();
  auto wrong = again ? start_again(of, stop) : finish(of, stop);
  guard.lock();
  signal();
  return wrong;
}

/// Fetches a file from its beginning: it is another one now, or ranges of it cannot be had.
caf::error download::start_again(entry& of, const std::stop_token& stop) {
  auto file = of.job->file();
  if (of.ask_again) {
    auto fresh = from_.stat(file.path, stop);
    if (!fresh)
      return std::move(fresh.error());
    file = std::move(*fresh);
  } else {
    file.ranged = false;
  }
  const std::lock_guard guard{mutex_}; // `snapshot` reads what the file is
  if (auto why = of.job->restart(std::move(file)))
    return why;
  const auto missing = of.job->missing(how_.part_bytes);
  of.todo.assign(missing.begin(), missing.end());
  of.restart = of.ask_again = false;
  ++of.restarts;
  of.now = state::running;
  return {};
}

caf::error download::finish(entry& of, const std::stop_token& stop) {
  auto why = of.job->finish(stop);
  if (why == errc::corrupted) {
    if (of.restarts + 1 < restarts_max)
      return start_again(of, stop);
    return caf::make_error(errc::corrupted, "fetching " + of.job->file().path + " from " +
                                                from_.name() + ": it arrived damaged " +
                                                std::to_string(restarts_max) +
                                                " times: " + describe(why));
  }
  if (why)
    return why;
  {
    const std::lock_guard guard{mutex_};
    of.now = state::done;
  }
  tell(true);
  return {};
}

void download::signal() {
  ++events_;
  changed_.notify_all();
}

void download::fail(const caf::error& why) {
  const std::lock_guard guard{mutex_};
  // What the others say from here on is that they were stopped.
  if (!failed_ && !halt_.stop_requested())
    failed_ = why;
  halt_.request_stop();
  signal();
}

pull_progress download::progress() const {
  const std::lock_guard guard{mutex_};
  return snapshot();
}

pull_progress download::snapshot() const {
  pull_progress out{.phase = "downloading", .files = {}};
  for (const auto& one : entries_) {
    const auto& file = one->job->file();
    const bool done = one->now == state::done;
    const auto bytes = done ? file.size_bytes : std::min(one->job->done_bytes(), file.size_bytes);
    out.files.push_back({file.path, file.size_bytes, bytes, done});
    out.total_bytes += file.size_bytes;
    out.done_bytes += bytes;
    out.fetched_bytes += one->job->fetched_bytes();
  }
  return out;
}

void download::tell(bool now) {
  if (!observer_)
    return;
  std::unique_lock lock{tell_mutex_, std::defer_lock};
  if (now)
    lock.lock();
  else if (!lock.try_lock())
    return; // another thread tells just now
  const auto time = std::chrono::steady_clock::now();
  if (!now && time - told_ < tell_pause)
    return;
  told_ = time;
  observer_(progress());
}

} // namespace troupe::storage
