#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "storage/disk/disk_file.hpp"
#include "storage/integrity/checksum.hpp"

namespace troupe::storage {

/// The checksums of one file's chunks: learned when a chunk is first read, demanded ever after. All
/// functions may be called from any thread.
class file_sums {
public:
  /// Those of a file that is on no disk of this machine, as its sender has them: kept in memory
  /// only. All zero = unknown; an empty list = all are.
  static std::shared_ptr<file_sums> received(std::filesystem::path name, uint64_t size_bytes,
                                             uint32_t chunk_bytes, std::vector<checksum> sums);
  /// What is recorded of the chunk at `offset`.
  std::optional<checksum> expected(uint64_t offset) const;
  /// Records a chunk that was not known, compares one that was. A difference fails with
  /// `corrupted`, names file and offset, and quarantines the file: it is refused until it is
  /// replaced.
  caf::error check(uint64_t offset, const checksum& found);
  /// Fails with `corrupted` if the file was quarantined, by this process or one before.
  caf::error trusted() const;
  /// The file has its recorded content again: it is trusted, and that is written down.
  caf::error mended();
  /// Writes down what was learned, atomically, after a load that went through; after one that did
  /// not, only that the file is damaged. A failure costs no more than the record.
  caf::error save(bool went_through);

private:
  friend class ledger;
  file_sums() = default;
  /// Where the file is damaged, and how; with the mutex held.
  std::string damage() const;

  mutable std::mutex mutex_;
  std::filesystem::path sidecar_; ///< empty = kept in memory only
  std::filesystem::path path_;
  file_identity identity_;
  uint32_t chunk_bytes_ = 0;
  std::vector<checksum> sums_; ///< all zero = unknown
  std::optional<uint64_t> bad_at_;
  checksum bad_sum_; ///< found there
  /// The file is not the recorded one but has to have its content.
  bool replaced_ = false;
  bool learned_ = false;
};

/// The recorded checksums of all files, one sidecar per file in one directory.
class ledger {
public:
  /// An empty directory keeps nothing beyond the process. It is made when first written to.
  explicit ledger(std::filesystem::path directory, uint32_t chunk_bytes)
      : directory_{std::move(directory)}, chunk_bytes_{chunk_bytes} {}

  /// The records of the files that make up one model, in their order. A file that was written to or
  /// replaced since it was recorded is recorded anew if all of them were; if others of the set are
  /// still the same, it must have the recorded content, because one foreign shard among the right
  /// ones is a mistake. Fails with `corrupted` if that cannot be for its size alone.
  /// A sidecar that is damaged counts as none.
  caf::expected<std::vector<std::shared_ptr<file_sums>>>
  open(const std::vector<std::shared_ptr<const disk_file>>& files) const;

  /// The record of a file of `size_bytes` that will lie at `place` but does not yet: kept in memory
  /// until `settle`.
  std::shared_ptr<file_sums> begin(const std::filesystem::path& place, uint64_t size_bytes) const;
  /// The file of such a record, all of it right, lies at its place now: writes down what was
  /// learned of it.
  caf::error settle(file_sums& sums, const disk_file& file) const;

  /// What is recorded of this very state of a file, quarantined or not; null if nothing is.
  std::shared_ptr<file_sums> recorded(const disk_file& file) const;
  uint32_t chunk_bytes() const { return chunk_bytes_; }

  /// Where the record of `file` is kept.
  std::filesystem::path sidecar_of(const std::filesystem::path& file) const;

private:
  std::shared_ptr<file_sums> load(const disk_file& file) const;

  std::filesystem::path directory_;
  uint32_t chunk_bytes_;
};

} // namespace troupe::storage
