#include "storage/pipeline/mapped_check.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

struct mapped_chunk {
  uint32_t file = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

/// The chunks that tensors lie in, in file order.
std::vector<mapped_chunk> chunks_of(const checkpoint& files, uint64_t chunk_bytes) {
  std::set<std::pair<uint32_t, uint64_t>> found;
  for (const auto& name : files.names())
    if (const auto range = locate(files, *files.find(name)); range && range->length != 0)
      for (auto at = range->offset / chunk_bytes; at * chunk_bytes < range->offset + range->length;
           ++at)
        found.emplace(range->file, at * chunk_bytes);
  std::vector<mapped_chunk> out;
  for (const auto& [file, offset] : found)
    out.push_back({file, offset, std::min(chunk_bytes, files.files()[file].size_bytes() - offset)});
  return out;
}

/// Hands chunks to threads and collects how they ended.
class chunk_walk {
public:
  chunk_walk(const checkpoint& files, std::vector<std::shared_ptr<file_sums>> sums,
             std::vector<mapped_chunk> chunks)
      : files_{files}, sums_{std::move(sums)}, chunks_{std::move(chunks)} {
    for (const auto& chunk : chunks_)
      total_ += chunk.length;
  }

  uint64_t total() const { return total_; }
  uint64_t done() const { return done_; }
  void stop(caf::error why) {
    const std::lock_guard guard{mutex_};
    if (!stopped_.exchange(true))
      why_ = std::move(why);
  }
  caf::error why() {
    const std::lock_guard guard{mutex_};
    return why_;
  }

  /// False once there is nothing left to do.
  bool step() {
    const auto index = next_++;
    if (stopped_ || index >= chunks_.size())
      return false;
    const auto& chunk = chunks_[index];
    const auto& file = files_.files()[chunk.file];
    // Some chunks ahead: the disk works while this one is looked at.
    if (index + 4 < chunks_.size()) {
      const auto& ahead = chunks_[index + 4];
      files_.files()[ahead.file].prefetch(ahead.offset, ahead.length);
    }
    auto why = file.populate(chunk.offset, chunk.length);
    if (!why)
      why = sums_[chunk.file]->check(chunk.offset,
                                     checksum_of(file.bytes().subspan(chunk.offset, chunk.length)));
    done_ += chunk.length;
    if (why)
      stop(std::move(why));
    return true;
  }

private:
  const checkpoint& files_;
  const std::vector<std::shared_ptr<file_sums>> sums_;
  const std::vector<mapped_chunk> chunks_;
  uint64_t total_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<uint64_t> done_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;
  caf::error why_;
};

} // namespace

caf::error warm_verified(const weight_tiers& tiers, const checkpoint& files,
                         const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  auto sums = tiers.open_sums(files);
  if (!sums)
    return sums.error();
  chunk_walk walk{files, *sums, chunks_of(files, tiers.chunk_bytes())};
  const auto stop = [&] { walk.stop(caf::make_error(errc::cancelled, "the load was cancelled")); };
  if (!progress(0, walk.total()))
    stop();
  std::thread second{[&] {
    while (walk.step())
      continue;
  }};
  while (walk.step())
    if (!progress(walk.done(), walk.total()))
      stop();
  second.join();
  auto why = walk.why();
  if (!why)
    why = files.check_unchanged();
  if (!why && !progress(walk.total(), walk.total()))
    why = caf::make_error(errc::cancelled, "the load was cancelled");
  for (const auto& one : *sums)
    (void)one->save(!why);
  return why;
}

} // namespace troupe::storage
