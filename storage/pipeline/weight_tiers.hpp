#pragma once
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "storage/checkpoint.hpp"
#include "storage/pipeline/load_pipeline.hpp"
#include "storage/pool/chunk_view.hpp"

namespace troupe::storage {

struct weight_tiers_options {
  chunk_pool_options pool{};
  disk_reader_options disk{};
  load_pipeline_options pipeline{};
  /// Where checksums are recorded; empty = only as long as the process lives.
  std::filesystem::path checksums{};
  /// Leave files that lie in the page cache where they are: mapping them costs no copy.
  bool map_cached_files = true;
};

/// What a node loads weights with: its pool, the disk's reader, the pipeline between them, and the
/// record of checksums. Functions may be called from any thread.
class weight_tiers {
public:
  /// Fails as `chunk_pool::open` and `make_disk_reader` do.
  static caf::expected<std::shared_ptr<weight_tiers>> open(weight_tiers_options options);

  chunk_pool& pool() { return *pool_; }
  const chunk_pool& pool() const { return *pool_; }
  uint32_t chunk_bytes() const { return pool_->chunk_bytes(); }
  /// What is recorded of a checkpoint's files, in their order. Fails as `ledger::open` does.
  caf::expected<std::vector<std::shared_ptr<file_sums>>> open_sums(const checkpoint& files) const;
  load_pipeline& pipeline() { return *pipeline_; }
  disk_reader& reader() { return *reader_; }
  bool maps_cached_files() const { return map_cached_files_; }

private:
  friend class pooled_weights;
  weight_tiers(std::shared_ptr<chunk_pool> pool, std::shared_ptr<disk_reader> reader,
               const weight_tiers_options& options);

  std::shared_ptr<chunk_pool> pool_;
  std::shared_ptr<disk_reader> reader_;
  ledger sums_;
  bool map_cached_files_;
  std::unique_ptr<load_pipeline> pipeline_; // last: its threads use the others
};

/// Where the bytes of a tensor of `files` lie: which file, and the place in there.
std::optional<planned_range> locate(const checkpoint& files, const tensor_view& tensor);

/// Tensors of a checkpoint that lie, or will lie, in the pool: loaded in the order in which they
/// are needed, used in place. Addresses are known from the start, bytes are there after `wait`.
class pooled_weights {
public:
  /// Begins to load the tensors of those names, in that order. Null if another way is better: the
  /// pool cannot hold so much beside what it holds for others, or the files lie in the page cache,
  /// where they can be mapped without copying them first. Fails with `corrupted` for files that are
  /// known to be damaged.
  static caf::expected<std::shared_ptr<pooled_weights>>
  start(const std::shared_ptr<weight_tiers>& tiers, const std::shared_ptr<const checkpoint>& files,
        const std::vector<std::string>& names, load_priority priority = load_priority::demand);
  /// Stops what is still under way and lets the chunks go.
  ~pooled_weights();
  pooled_weights(const pooled_weights&) = delete;
  pooled_weights& operator=(const pooled_weights&) = delete;

  /// What `checkpoint::find` says, the bytes in the pool; none for a tensor that was not asked for.
  std::optional<tensor_view> find(std::string_view name) const;

  /// Where in the order a tensor comes; it has to be one that was asked for.
  size_t index_of(std::string_view name) const { return names_.at(std::string{name}); }
  /// Says, once for a tensor that is there, that its bytes are not needed any more. A chunk goes
  /// when none of its tensors is.
  void release(size_t tensor);

  struct state {
    size_t tensors = 0; ///< so many of the first ones are there
    uint64_t bytes = 0; ///< of chunks, arrived
    bool over = false;  ///< all are there, or none more will come
    caf::error why;     ///< if the load failed
  };
  /// Blocks until the first `tensors` tensors are there or the load failed, or until more than
  /// `bytes` bytes have arrived.
  state wait(size_t tensors, uint64_t bytes = UINT64_MAX) const;
  uint64_t total_bytes() const { return total_bytes_; } ///< of the chunks that hold the tensors
  size_t tensor_count() const { return names_.size(); }
  void cancel() { load_->cancel(); }
  load_counts counts() const { return load_->counts(); }

private:
  pooled_weights(std::shared_ptr<weight_tiers> tiers, std::shared_ptr<const checkpoint> files);
  caf::error prepare(const std::vector<std::string>& names, load_plan& plan);
  load_events events();

  std::shared_ptr<weight_tiers> tiers_;
  std::shared_ptr<const checkpoint> files_;
  std::vector<std::unique_ptr<chunk_view>> views_; ///< per file
  std::unordered_map<std::string, size_t> names_;
  std::vector<planned_range> ranges_; ///< by index of the tensor
  /// Tensors that need a chunk, by file and index of the chunk; changes under the mutex.
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> users_;
  uint32_t reserved_ = 0;
  uint64_t total_bytes_ = 0;
  std::shared_ptr<load> load_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  state state_;
};

} // namespace troupe::storage
