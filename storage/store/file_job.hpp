#pragma once
#include <atomic>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

#include "storage/sources/source.hpp"
#include "storage/store/arrival.hpp"
#include "storage/store/file_lock.hpp"
#include "storage/store/journal.hpp"
#include "storage/store/layout.hpp"
#include "storage/store/sha256.hpp"

namespace troupe::storage {

/// One file on its way from a source into a layout: its lock, its partial bytes, what is missing.
/// `open`, `restart` and `finish` are for one thread at a time, with no part being written; `write`
/// and `advance_checksum` for any number of threads.
class file_job {
public:
  file_job(source_file file, file_place place) : file_{std::move(file)}, place_{std::move(place)} {}
  ~file_job();
  file_job(const file_job&) = delete;
  file_job& operator=(const file_job&) = delete;

  const source_file& file() const { return file_; }
  const file_place& place() const { return place_; }

  /// Tells `who` from now on what there is of the file; before `open`.
  void tell(std::shared_ptr<arrival> who) { arrival_ = std::move(who); }
  const std::shared_ptr<arrival>& told() const { return arrival_; }

  /// Waits until no other process fetches this file.
  caf::error lock(const std::stop_token& stop);
  /// Takes up what an earlier attempt left. `ready()` afterwards if all of it is there, or if it
  /// was `published` while this waited.
  caf::error open(bool published);
  bool ready() const { return ready_; }
  /// What is left to fetch, in pieces of `piece` bytes; all at once where ranges do not work.
  std::vector<byte_range> missing(uint64_t piece) const;
  /// Writes bytes to their place and remembers them.
  caf::error write(uint64_t offset, std::span<const std::byte> bytes);
  /// Fails the arrival that is told of this file, if any: what has come is of no use.
  void disown(const caf::error& why);
  /// Forgets what has come, as it is of no use, or of it only `doubtful` parts if there are any;
  /// `file` is what the source says now.
  caf::error restart(source_file file, const std::vector<byte_range>& doubtful = {});
  /// Checks the whole (`corrupted`), makes it lasting, and puts it where the layout wants it.
  caf::error finish(const std::stop_token& stop);
  /// Goes on with the checksum as far as bytes have come without a gap, unless another thread does.
  caf::error advance_checksum(const std::stop_token& stop);

  uint64_t done_bytes() const { return done_bytes_.load(std::memory_order_relaxed); }
  uint64_t fetched_bytes() const { return fetched_bytes_.load(std::memory_order_relaxed); }

private:
  caf::error remember(byte_range range);
  caf::error show_whole(const std::filesystem::path& at);
  caf::error failure(const std::string& what, int code) const;

  source_file file_;
  const file_place place_;
  std::optional<file_lock> lock_;
  int fd_ = -1;
  bool ready_ = false;
  std::shared_ptr<arrival> arrival_; ///< or null
  /// The time of modification that the finished file gets, so that what is read from it on its way
  /// is known for a part of the finished file.
  int64_t stamp_ns_ = 0;
  mutable std::mutex mutex_; // of the journal
  std::optional<journal> journal_;
  std::mutex checksum_mutex_;
  std::optional<vouched_sum> checksum_;
  uint64_t summed_bytes_ = 0;
  std::atomic<uint64_t> done_bytes_{0};
  std::atomic<uint64_t> fetched_bytes_{0};
};

/// What is there already of a file that was begun earlier; for the check of free space.
uint64_t bytes_already_there(const source_file& file, const file_place& place);

} // namespace troupe::storage
