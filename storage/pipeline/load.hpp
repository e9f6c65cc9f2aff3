#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/error.hpp"
#include "base/instant.hpp"
#include "storage/integrity/ledger.hpp"
#include "storage/pipeline/origin.hpp"
#include "storage/pool/chunk_pool.hpp"

namespace troupe::storage {

struct planned_file {
  std::shared_ptr<chunk_origin> origin;
  std::shared_ptr<file_sums> sums;
};

/// A part of a file that means something to the caller: a tensor.
struct planned_range {
  uint32_t file = 0; ///< index into the plan's files
  uint64_t offset = 0;
  uint64_t length = 0;
};

/// What to load, ranges in the order in which they are needed.
struct load_plan {
  std::vector<planned_file> files;
  std::vector<planned_range> ranges;
  /// Chunks that may be on their way or in the caller's hands at once; 0 = any number. A caller
  /// that sets it says with `load::let_go` which it does not hold any more.
  uint32_t held_max = 0;
};

/// A load that a user waits for overtakes one that may turn out to be of use.
enum class load_priority : uint8_t { prefetch, demand };

/// One verified chunk. Whoever keeps `bytes` keeps the chunk in the pool.
struct loaded_chunk {
  uint32_t file = 0;
  uint64_t offset = 0; ///< in the file, a multiple of the chunk size
  chunk_lease bytes;
};

/// What a load tells; called on threads of the pipeline, one call at a time for each load.
struct load_events {
  /// A chunk arrived, in about the order of the plan. An error ends the load with it.
  std::function<caf::error(loaded_chunk)> chunk{};
  /// The first `ranges` ranges of the plan are complete, `bytes` bytes of chunks arrived in all.
  std::function<void(size_t ranges, uint64_t bytes)> progress{};
  /// The load is over, and nothing more will be called. Once; empty = all went well.
  std::function<void(caf::error)> done{};
};

/// Where a chunk came from; `origin` = from neither memory of this machine.
enum class chunk_place : uint8_t { pool, page_cache, origin };

/// Where a load's bytes came from.
struct load_counts {
  uint64_t total_bytes = 0;
  uint64_t pool_bytes = 0;   ///< held already
  uint64_t disk_bytes = 0;   ///< read for it, or for another load that wanted the same
  uint64_t cached_bytes = 0; ///< of those, what the page cache had
};

/// Wakes a pipeline's conductor. It has a mutex of its own, because leases may end, and so make
/// room, on threads that hold others; and a life of its own, because a load may outlive its
/// pipeline.
class waker {
public:
  void wake();
  void wait(); ///< until `wake` was called since the last `wait`

private:
  std::mutex mutex_;
  std::condition_variable signal_;
  bool woken_ = false;
};

/// One load under way. Kept alive by its pipeline until `done`.
class load {
public:
  /// Stops it soon; `done` gets `cancelled` unless all was delivered before.
  void cancel();
  void set_priority(load_priority priority);
  /// See `load_plan::held_max`.
  void let_go(uint32_t chunks);
  load_counts counts() const;

private:
  friend class load_pipeline;
  /// How a chunk will come: decided once, when it is first looked at.
  enum class way : uint8_t { unknown, from_pool, by_reading, asked };
  struct chunk {
    uint32_t file = 0;
    uint64_t offset = 0;
    uint32_t length = 0;
    std::vector<uint32_t> ranges; ///< that lie in it, whole or partly
    way comes = way::unknown;     ///< of the pipeline, under its mutex
  };

  load(load_plan plan, load_events events, load_priority priority, instant began,
       std::shared_ptr<waker> conductor, uint32_t chunk_bytes);
  void cut(uint32_t chunk_bytes);
  /// Hands a verified chunk to the caller.
  void deliver(size_t index, chunk_lease lease, chunk_place from);
  void fail(caf::error why);
  bool over() const;
  /// A chunk that was not asked for before may be asked for now.
  bool may_go_on() const;
  /// Its chunks may be asked for in another order than the plan's.
  bool any_order() const { return plan_.held_max == 0; }
  // Of the pipeline, under its mutex:
  /// True if the bytes of a chunk have to be waited for; it comes back by `take_arrived`.
  bool park(size_t index);
  void take_arrived();

  const load_plan plan_;
  const load_events events_;
  const instant began_;
  const std::shared_ptr<waker> conductor_;
  std::vector<chunk> chunks_;
  /// Parked chunks whose bytes have come. Their origin may tell so after this load has ended.
  struct arrived_chunks {
    std::mutex mutex;
    std::vector<size_t> chunks;
  };
  const std::shared_ptr<arrived_chunks> arrived_ = std::make_shared<arrived_chunks>();

  std::atomic<load_priority> priority_;
  std::atomic<bool> stopped_{false};
  std::atomic<size_t> let_go_{0};

  // Of the pipeline, under its mutex:
  size_t asked_ = 0;          ///< chunks that were asked for
  size_t next_read_ = 0;      ///< where to look for one to be read,
  size_t next_held_ = 0;      ///< and for one that the pool holds
  std::vector<size_t> again_; ///< chunks whose turn has come again
  size_t parked_ = 0;         ///< chunks whose bytes are still to be fetched to this machine
  size_t pending_ = 0;        ///< asked for, not yet delivered

  mutable std::mutex mutex_; ///< of what follows
  caf::error why_;
  load_counts counts_;
  std::mutex delivery_;           ///< held while the caller is called; guards what follows
  std::vector<uint32_t> missing_; ///< per range: chunks that have not arrived
  size_t complete_ = 0;
  uint64_t arrived_bytes_ = 0;
};

} // namespace troupe::storage
