#pragma once
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "storage/pipeline/job_threads.hpp"
#include "storage/pipeline/load.hpp"

namespace troupe::storage {

struct load_pipeline_options {
  /// Chunks that are being read, or verified in the pool, at once, of each kind; but never more
  /// than a quarter of the pool.
  uint32_t chunks_in_flight = 16;
  /// Threads that make memory, compute checksums and call back.
  uint32_t workers = 2;
};

/// Brings files through the host pool to whoever wants them, many loads at once.
///
///   conductor         worker                    origin's thread        worker
///   whose turn? ────> in the pool? ──yes: verify ───────────────────────────────────┐
///                        └─no: make room ─────> read into the pool ──> verify, publish ──> callers
///
/// A chunk that two loads want is read once. Loads are served by priority, then by age, chunk by
/// chunk. What the pool holds does not hold up what has to be read: both are under way at the same
/// time, unless the plan bounds what may be held. Nothing is asked for while the pool has no room,
/// so a caller that keeps leases slows the load down but cannot make it grow.
class load_pipeline {
public:
  /// A pool has one pipeline at a time.
  load_pipeline(std::shared_ptr<chunk_pool> pool, load_pipeline_options options = {});
  /// Cancels what is under way, and waits until everybody was told.
  ~load_pipeline();
  load_pipeline(const load_pipeline&) = delete;
  load_pipeline& operator=(const load_pipeline&) = delete;

  /// Begins a load; its events may come before this returns. Ranges have to lie inside their files;
  /// this is asserted. A caller that means to keep all chunks reserves them in the pool before.
  std::shared_ptr<load> start(load_plan plan, load_priority priority, load_events events);

  /// Chunks that may be read at once, for all loads together.
  uint32_t window() const { return window_; }
  /// Bytes per second that origins delivered while they were asked for something that no memory of
  /// this machine had, lately; 0 before the first.
  double origin_rate() const;
  /// What it would take to get so many bytes again, at that rate.
  double reload_seconds(uint64_t length) const;
  /// Called, on any thread, after a chunk has come into the pool. One at a time; null = none.
  void on_landed(std::function<void()> callback);

private:
  struct waiter {
    std::shared_ptr<load> who;
    size_t chunk = 0;
  };
  /// A chunk on its way to those who want it.
  struct flight {
    chunk_key key;
    planned_file file;
    uint32_t length = 0;
    bool held = false; ///< by the pool, when its turn came
    instant used{};
    chunk_fill fill;
    chunk_place from = chunk_place::origin;
    bool read_again = false;
    std::vector<waiter> waiters; ///< under the mutex while the flight is listed
  };
  struct hash_key {
    size_t operator()(const chunk_key& key) const noexcept {
      return std::hash<checksum>{}(key.file) ^ (key.offset * 0x9e3779b97f4a7c15ull);
    }
  };

  void conduct();
  /// Gets chunks under way as long as there is room. Only the conductor does this.
  void pump();
  // With the mutex held:
  /// The next chunk to get under way, or null. Chunks that are under way already are passed over:
  /// their flight gets one more waiter.
  std::shared_ptr<flight> next();
  /// The same of one load: an index, taken from what is left of it.
  std::optional<size_t> next_of(load& who);
  std::optional<size_t> next_by(load& who, load::way how);
  load::way way_of(load& who, size_t index);
  bool has_room(load::way how) const {
    return in_flight_ < 2 * window_ &&
           (how == load::way::from_pool ? holding_ : in_flight_ - holding_) < window_;
  }
  chunk_key key_of(const load& who, size_t index) const;
  // By workers, in this order:
  void process(const std::shared_ptr<flight>& what);
  chunk_lease find_held(const flight& what);
  void put_back(flight& what, uint64_t room);
  void read(const std::shared_ptr<flight>& what);
  void arrived(const std::shared_ptr<flight>& what, caf::error why);
  void land(flight& what, chunk_lease lease, chunk_place from, caf::error why);

  std::vector<std::shared_ptr<load>> take_finished();
  static void finish(load& who);
  void begin_reading();
  void end_reading(uint64_t bytes);

  const std::shared_ptr<chunk_pool> pool_;
  const std::shared_ptr<waker> conductor_ = std::make_shared<waker>();
  /// Counts the moments at which the pool may have got room.
  const std::shared_ptr<std::atomic<uint64_t>> room_ = std::make_shared<std::atomic<uint64_t>>(0);
  /// Chunks in flight at most: were they most of the pool, what stays in it would be what arrived
  /// last instead of what is worth most.
  const uint32_t window_;

  mutable std::mutex mutex_;
  std::list<std::shared_ptr<load>> loads_; ///< by age
  std::unordered_map<chunk_key, std::shared_ptr<flight>, hash_key> flights_;
  uint32_t in_flight_ = 0;
  uint32_t holding_ = 0; ///< of those, held by the pool when their turn came
  /// What `room_` was when the pool had none; while it is that, nothing new is tried.
  uint64_t blocked_at_ = UINT64_MAX;
  uint32_t reading_ = 0;
  instant reading_since_{};
  double read_bytes_ = 0, read_seconds_ = 0;
  bool stopping_ = false;

  std::mutex callback_mutex_;
  std::function<void()> landed_callback_;

  job_threads workers_;
  std::thread conducting_;
};

} // namespace troupe::storage
