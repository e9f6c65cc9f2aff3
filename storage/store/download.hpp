#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "storage/store/file_job.hpp"
#include "storage/store/pull.hpp"

namespace troupe::storage {

/// Fetches files side by side: a number of threads take the parts of the files in order. Where
/// other nodes fetch parts, half of them take those as they come, so that the parts that others
/// wait for never wait for others. More threads, which ask the source for nothing, follow what is
/// on its way to the others, or most of that would come after all of it has left the source.
class download {
public:
  download(source& from, const model_layout& to, const pull_setup& how,
           const pull_observer& observer)
      : from_{from}, to_{to}, how_{how}, observer_{observer} {}

  /// Adds a file to be fetched, unless it is there; before `run`. With `early`, its beginning comes
  /// before the rest of others, and what comes of it can be read: what is returned tells. Null if
  /// it is there.
  std::shared_ptr<arrival> add(const source_file& file, bool early = false);
  uint64_t missing_bytes() const;
  /// Fetches everything; the first failure ends it all.
  caf::error run(std::stop_token stop);
  /// Fetches in about this order from now on: the files as they are needed first, and of each,
  /// what is needed first. But a file with a sha256 is fetched from its beginning, as only in that
  /// order its checksum can be computed on the way.
  void prefer(const std::vector<arriving_model::wish>& order);
  /// Blocks until all files that are not `early` ones are here, or the download is over.
  bool wait_for_small(const std::stop_token& stop);
  pull_progress progress() const;
  /// The files as they were fetched in the end.
  std::vector<source_file> files() const;

private:
  enum class state { waiting, opening, running, finishing, done };
  struct entry {
    std::unique_ptr<file_job> job;
    state now = state::waiting;
    bool early = false;
    bool head_left = false; ///< its beginning is the next part
    std::deque<byte_range> todo;
    unsigned open_parts = 0;
    unsigned restarts = 0;
    bool restart = false;   ///< once the open parts have come back
    bool ask_again = false; ///< the source has other bytes now
  };
  struct part {
    entry* of = nullptr;
    byte_range range;
    bool open = false; ///< the file is to be opened first
  };

  /// Which parts a thread takes.
  enum class taking { any, own, of_peers, of_peers_alone };

  void work(taking first, const std::stop_token& stop);
  void list_parts(entry& of);
  bool take(entry& from, taking which, bool only_urgent, part& out);
  bool take_next(taking first, part& out);
  bool next(taking first, part& out, std::unique_lock<std::mutex>& guard,
            const std::stop_token& stop);
  caf::error open(entry& of, const std::stop_token& stop);
  caf::error fetch(entry& of, byte_range range, const std::stop_token& stop);
  caf::error after_part(entry& of, const caf::error& why, const std::stop_token& stop);
  caf::error start_again(entry& of, const caf::error& why, const std::stop_token& stop);
  caf::error finish(entry& of, const std::stop_token& stop);
  void fail(const caf::error& why);
  /// Something has happened that a waiting thread may want to know; the mutex is held.
  void signal();
  void tell(bool now);
  pull_progress snapshot() const;

  source& from_;
  const model_layout& to_;
  const pull_setup& how_;
  const pull_observer& observer_;
  std::vector<std::unique_ptr<entry>> entries_;
  std::vector<entry*> turns_; ///< the order in which they are fetched
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  uint64_t events_ = 0;
  std::stop_source halt_;
  caf::error failed_;
  std::mutex tell_mutex_;
  std::chrono::steady_clock::time_point told_{};
};

} // namespace troupe::storage
