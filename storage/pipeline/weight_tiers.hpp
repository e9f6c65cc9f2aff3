#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.hpp"
#include "storage/checkpoint.hpp"
#include "storage/pipeline/load_pipeline.hpp"
#include "storage/pool/chunk_pool.hpp"
#include "storage/pool/kept_mappings.hpp"

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
  const ledger& records() const { return sums_; }
  load_pipeline& pipeline() { return *pipeline_; }
  disk_reader& reader() { return *reader_; }
  bool maps_cached_files() const { return map_cached_files_; }

private:
  friend class pooled_weights;
  weight_tiers(std::shared_ptr<chunk_pool> pool, std::shared_ptr<disk_reader> reader,
               const weight_tiers_options& options);

  std::shared_ptr<chunk_pool> pool_;
  std::shared_ptr<kept_mappings> mappings_;
  std::shared_ptr<disk_reader> reader_;
  ledger sums_;
  bool map_cached_files_;
  std::unique_ptr<load_pipeline> pipeline_; // last: its threads use the others
};

/// Where the bytes of a tensor of `files` lie: which file, and the place in there.
std::optional<planned_range> locate(const checkpoint& files, const tensor_view& tensor);

} // namespace troupe::storage
