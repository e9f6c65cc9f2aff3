#include "storage/store/download.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <thread>
#include <unordered_map>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// A file that changes or arrives damaged more often than this is not worth another attempt.
constexpr unsigned restarts_max = 3;
/// Written down so often: what a killed process has to fetch again, for each connection.
constexpr size_t journal_step_bytes = size_t{256} << 10;
/// Of a file that is wanted early, so much comes before the rest of any: most headers fit in there.
constexpr uint64_t head_bytes = uint64_t{256} << 10;
/// Parts of other nodes that are followed at once; each takes 4 MiB of memory.
constexpr size_t followers_max = 16;
constexpr auto tell_pause = std::chrono::milliseconds{50};

} // namespace

std::shared_ptr<arrival> download::add(const source_file& file, bool early) {
  auto one = std::make_unique<entry>();
  one->job = std::make_unique<file_job>(file, to_.place(file));
  one->now = to_.has(file) ? state::done : state::waiting;
  one->early = early;
  std::shared_ptr<arrival> out;
  if (early && one->now != state::done) {
    out = std::make_shared<arrival>(to_.model_dir() / file.path);
    one->job->tell(out);
  }
  turns_.push_back(one.get());
  entries_.push_back(std::move(one));
  return out;
}

uint64_t download::missing_bytes() const {
  uint64_t out = 0;
  for (const auto& one : entries_)
    if (one->now != state::done)
      out += one->job->file().size_bytes - bytes_already_there(one->job->file(), one->job->place());
  return out;
}

std::vector<source_file> download::files() const {
  const std::lock_guard guard{mutex_};
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
    const auto own = (useful + 1) / 2;
    // Others fetch as many parts at once as this node.
    const auto followers = std::min(from_.peers() * own, std::max(useful, followers_max));
    for (size_t i = 0; i < std::max(useful, own + followers); ++i)
      workers.emplace_back(
          [this, first = i >= useful  ? taking::of_peers_alone
                         : i % 2 == 0 ? taking::own
                                      : taking::of_peers] { work(first, halt_.get_token()); });
  }
  // A stop that came when all was done changes nothing.
  const bool over =
      std::ranges::all_of(entries_, [](const auto& x) { return x->now == state::done; });
  if (!failed_ && !over)
    return caf::make_error(errc::cancelled, "fetching " + from_.name() + ": cancelled");
  tell(true);
  return failed_;
}

void download::work(taking first, const std::stop_token& stop) {
  std::unique_lock guard{mutex_};
  part mine;
  while (next(first, mine, guard, stop)) {
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
  if (!of.job->ready())
    list_parts(of);
  of.now = state::running;
  return {};
}

/// With the mutex held.
void download::list_parts(entry& of) {
  const auto missing = of.job->missing(how_.part_bytes);
  of.todo.assign(missing.begin(), missing.end());
  of.head_left = of.early && !of.todo.empty() && of.todo.front().offset < head_bytes;
  auto first = of.todo.empty() ? byte_range{} : of.todo.front();
  const auto end = first.offset + first.length;
  if (!of.head_left || !of.job->file().ranged || end <= head_bytes)
    return;
  of.todo.front() = {head_bytes, end - head_bytes};
  of.todo.push_front({first.offset, head_bytes - first.offset});
}

bool download::take(entry& from, taking which, bool only_urgent, part& out) {
  // What a model is understood by, and the heads of its weights, before everything else.
  if (only_urgent && from.early && from.now != state::waiting && !from.head_left)
    return false;
  if (from.now == state::waiting && which != taking::of_peers) {
    from.now = state::opening;
    out = {&from, {}, true};
  } else if (from.now == state::running && !from.restart) {
    const auto first = from.todo.begin();
    const auto end = only_urgent && from.early ? std::next(first) : from.todo.end();
    const auto at = std::find_if(first, end, [&](byte_range range) {
      return which == taking::any ||
             (which == taking::of_peers) == from_.comes_from_peer(from.job->file(), range.offset);
    });
    if (at == end)
      return false;
    out = {&from, *at, false};
    from.head_left = from.head_left && at != first;
    from.todo.erase(at);
  } else {
    return false;
  }
  ++from.open_parts;
  return true;
}

bool download::take_next(taking first, part& out) {
  const auto take_of = [&](taking which, bool only_urgent) {
    for (auto* one : turns_)
      if (take(*one, which, only_urgent, out))
        return true;
    return false;
  };
  if (first == taking::of_peers_alone)
    return take_of(taking::of_peers, true) || take_of(taking::of_peers, false);
  if (first == taking::own && (take_of(first, true) || take_of(first, false)))
    return true;
  return take_of(taking::any, true) || take_of(first, false) || take_of(taking::any, false);
}

/// The next thing to do; false when there is nothing left.
bool download::next(taking first, part& out, std::unique_lock<std::mutex>& guard,
                    const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (take_next(first, out))
      return true;
    if (std::ranges::all_of(entries_, [](const auto& x) { return x->now == state::done; }))
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
  auto wrong = again ? start_again(of, why, stop) : finish(of, stop);
  guard.lock();
  signal();
  return wrong;
}

/// Fetches a file from its beginning: it is another one now, or ranges of it cannot be had.
caf::error download::start_again(entry& of, const caf::error& why, const std::stop_token& stop) {
  auto file = of.job->file();
  if (of.ask_again) {
    auto fresh = from_.stat(file.path, stop);
    if (!fresh)
      return std::move(fresh.error());
    file = std::move(*fresh);
  } else {
    file.ranged = false;
  }
  of.job->disown(
      why ? why
          : caf::make_error(errc::changed, file.path + " of " + from_.name() + " has changed"));
  const auto doubtful = why == errc::corrupted ? from_.doubt(file) : std::vector<byte_range>{};
  const std::lock_guard guard{mutex_}; // `snapshot` reads what the file is
  if (auto wrong = of.job->restart(std::move(file), doubtful))
    return wrong;
  list_parts(of);
  of.restart = of.ask_again = false;
  ++of.restarts;
  of.now = state::running;
  return {};
}

caf::error download::finish(entry& of, const std::stop_token& stop) {
  auto why = of.job->finish(stop);
  if (why == errc::corrupted) {
    if (of.restarts + 1 < restarts_max)
      return start_again(of, why, stop);
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

void download::prefer(const std::vector<arriving_model::wish>& order) {
  using wanted_ranges = std::map<uint64_t, std::pair<uint64_t, size_t>>; // offset -> end, index
  std::unordered_map<std::string, wanted_ranges> by_file;
  for (size_t i = 0; i < order.size(); ++i)
    if (const auto& [offset, length] = order[i].range; length != 0)
      by_file[order[i].file.native()].emplace(offset, std::pair{offset + length, i});
  const std::lock_guard guard{mutex_};
  std::map<const entry*, size_t> first; // the wish that needs the file first
  for (const auto& one : entries_) {
    const auto& wanted = by_file[(to_.model_dir() / one->job->file().path).native()];
    const auto rank = [&](byte_range part) {
      auto out = order.size(); // what nobody asked for comes last
      auto at = wanted.upper_bound(part.offset);
      if (at != wanted.begin() && std::prev(at)->second.first > part.offset)
        --at;
      for (; at != wanted.end() && at->first < part.offset + part.length; ++at)
        out = std::min(out, at->second.second);
      return out;
    };
    first[one.get()] = one->early ? rank({0, UINT64_MAX}) : 0;
    if (!vouched_sum::has(one->job->file()) && one->job->file().ranged)
      std::ranges::stable_sort(one->todo, {}, rank);
  }
  std::ranges::stable_sort(turns_, {}, [&](const entry* x) { return first.at(x); });
}

bool download::wait_for_small(const std::stop_token& stop) {
  std::unique_lock guard{mutex_};
  const auto small_here = [this] {
    return std::ranges::all_of(entries_,
                               [](const auto& x) { return x->early || x->now == state::done; });
  };
  while (!small_here()) {
    if (failed_ || !changed_.wait(guard, stop, [this, seen = events_] { return events_ != seen; }))
      return false;
  }
  return true;
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
