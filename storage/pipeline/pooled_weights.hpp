#pragma once
#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "storage/pipeline/weight_tiers.hpp"
#include "storage/pool/chunk_view.hpp"
#include "storage/store/arrival.hpp"

namespace troupe::storage {

/// Where the bytes of a checkpoint's files come from besides, or instead of, the files themselves.
struct weight_origins {
  /// For the file of that index. `own` is the file itself with its records; without one if `alone`.
  std::function<planned_file(uint32_t index, planned_file own)> of;
  /// The files on this machine's disk hold nothing but the headers.
  bool alone = false;
};

/// What of a checkpoint is to be loaded.
struct weights_wish {
  std::vector<std::string> names; ///< of tensors, in the order in which they are needed
  /// They are read in that order, and large ones in parts of 16 MiB, so that what was read can go
  /// before the last ones have come. Otherwise the pool has to hold all.
  bool in_order = true;
  load_priority priority = load_priority::demand;
  /// The checkpoint's files that are still on their way, or null.
  std::shared_ptr<const arriving_model> arriving{};
  std::shared_ptr<const weight_origins> from{}; ///< null = the files
};

/// Tensors of a checkpoint that lie, or will lie, in the pool: loaded in the order in which they
/// are needed. Addresses are known from the start, bytes are there after `wait`.
///
/// Of a file that is still being fetched, chunks come as the file does. The last part of all is
/// held back until every such file has turned out to be what its source vouches for: who waits for
/// all tensors before it makes use of them never uses wrong ones. If one is wrong, the load fails,
/// and what was read of that file is thrown out of the pool.
class pooled_weights {
public:
  /// Begins to load. Null if another way is better: the pool cannot even hold what is needed at the
  /// same time beside what it holds for others, or the files lie in the page cache, where they can
  /// be mapped without copying them first, and not in a pool that is pinned. Fails with `corrupted`
  /// for files that are known to be damaged, with `no_memory` if there is no other way and the pool
  /// is too small.
  static caf::expected<std::shared_ptr<pooled_weights>>
  start(const std::shared_ptr<weight_tiers>& tiers, const std::shared_ptr<const checkpoint>& files,
        const weights_wish& wish);
  /// Stops what is still under way and lets the chunks go.
  ~pooled_weights();
  pooled_weights(const pooled_weights&) = delete;
  pooled_weights& operator=(const pooled_weights&) = delete;

  /// What `checkpoint::find` says, the bytes in the pool; none for a tensor that was not asked for.
  std::optional<tensor_view> find(std::string_view name) const;

  /// Where devices read bytes by themselves that begin at `at`, an address of a tensor that
  /// `find` gave: how many of `size_bytes` bytes, which are there and not released, and where. They
  /// must not be released before the devices have read them.
  pinned_run pinned(const std::byte* at, uint64_t size_bytes) const;

  /// True if the pool cannot hold all: the load only goes on as long as tensors are released, in
  /// about their order, so they have to be copied. False: they may be used where they lie.
  bool pass_through() const { return passing_; }

  /// Says that the first `bytes` bytes of a tensor, which are there, are not needed any more. A
  /// chunk goes when nobody needs any of it.
  void release(std::string_view name, uint64_t bytes);

  struct state {
    size_t parts = 0;   ///< so many of the first ones are there
    uint64_t bytes = 0; ///< of chunks, arrived
    bool over = false;  ///< all are there, or none more will come
    caf::error why;     ///< if the load failed
  };
  /// Blocks until the first `bytes` bytes of a tensor, and all tensors before it, are there; fails
  /// if they will not be. Returns early, with nothing said, when `stop` is requested.
  caf::error wait(std::string_view name, uint64_t bytes, const std::stop_token& stop = {}) const;
  /// Blocks until more than `bytes` bytes have arrived in all, or the load is over.
  state follow(uint64_t bytes) const;
  uint64_t total_bytes() const { return total_bytes_; } ///< of the chunks that hold the tensors
  void cancel() { load_->cancel(); }
  load_counts counts() const { return load_->counts(); }

private:
  /// Large tensors come, and go, in parts.
  struct tensor {
    planned_range whole;
    size_t first_part = 0;
    size_t released = 0; ///< parts
  };
  struct name_hash {
    using is_transparent = void;
    size_t operator()(std::string_view x) const { return std::hash<std::string_view>{}(x); }
  };
  pooled_weights(std::shared_ptr<weight_tiers> tiers, std::shared_ptr<const checkpoint> files);
  void list_parts(const std::vector<std::string>& names);
  /// False if the load is not to be.
  caf::expected<bool> prepare(const weights_wish& wish, load_plan& plan);
  caf::error add_files(const weights_wish& wish,
                       const std::vector<std::shared_ptr<const disk_file>>& opened,
                       load_plan& plan);
  void record_arrivals(const std::vector<std::shared_ptr<const disk_file>>& opened,
                       const load_plan& plan);
  /// Whether the pool has the chunks of files that are here.
  bool holds_all(const std::vector<std::shared_ptr<const disk_file>>& opened) const;
  bool make_room(const weights_wish& wish, load_plan& plan);
  load_events events();
  void follow_arrivals();
  void one_checked(const caf::error& why);
  /// Parts that may be used; with the mutex held.
  size_t usable() const { return std::min(state_.parts, parts_.size() - (unchecked_ > 0 ? 1 : 0)); }
  void note_end();

  std::shared_ptr<weight_tiers> tiers_;
  std::shared_ptr<const checkpoint> files_;
  std::vector<std::unique_ptr<chunk_view>> views_; ///< per file
  std::unordered_map<std::string, tensor, name_hash, std::equal_to<>> tensors_;
  std::vector<planned_range> parts_;
  /// Parts that need a chunk, by file and index of the chunk; changes under the mutex.
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> users_;
  uint32_t reserved_ = 0;
  bool passing_ = false;
  uint64_t total_bytes_ = 0;
  std::shared_ptr<load> load_;
  /// Files that are on their way, by their index; null = here.
  std::vector<std::shared_ptr<arrival>> arriving_;
  std::shared_ptr<const arriving_model> model_; ///< keeps them
  /// Arrivals tell what became of them when this may be gone.
  struct checks {
    std::mutex mutex;
    pooled_weights* to = nullptr;
  };
  const std::shared_ptr<checks> checks_ = std::make_shared<checks>();

  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  state state_;
  size_t unchecked_ = 0;  ///< files on their way of which it is not known whether they are right
  bool all_read_ = false; ///< the load has ended
};

/// Chunks that have to be in the pool together for whoever goes through `parts` in order, with
/// `step` bytes of them at once.
uint32_t working_set(std::span<const planned_range> parts, uint64_t chunk_bytes, uint64_t step);

} // namespace troupe::storage
