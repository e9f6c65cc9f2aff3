#pragma once
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "storage/sources/location.hpp"
#include "storage/sources/source.hpp"
#include "storage/store/file_lock.hpp"

namespace troupe::storage {

/// Where the parts of one file being fetched are.
struct file_place {
  std::filesystem::path partial; ///< what has come so far
  std::filesystem::path journal;
  std::filesystem::path lock;
  /// Where the bytes go as soon as they are verified; empty = they stay at `partial` until
  /// everything is published.
  std::filesystem::path blob;
};

/// How a model lies on disk. Files are fetched one by one, but a model shows up at once, when it is
/// published: until then no catalog sees a part of it.
class model_layout {
public:
  virtual ~model_layout() = default;
  /// The directory that is the model once it is published.
  virtual const std::filesystem::path& model_dir() const = 0;
  /// The lock that servers of the model share (see in_use.hpp).
  virtual std::filesystem::path use_lock() const = 0;
  virtual file_place place(const source_file& file) const = 0;
  /// Whether these very bytes are there and published.
  virtual bool has(const source_file& file) const = 0;
  /// As long as the result lives nothing is published, here or by another process.
  virtual caf::expected<file_lock> hold_publishing(const std::stop_token& stop) const = 0;
  /// Makes the fetched files the model's.
  virtual caf::error publish(const std::vector<source_file>& files,
                             const std::stop_token& stop) = 0;
};

/// The hub's own cache: blobs/ETAG, snapshots/COMMIT/path -> ../../blobs/ETAG, refs/REVISION.
std::unique_ptr<model_layout> make_hub_layout(const std::filesystem::path& cache,
                                              const location& from, const std::string& commit);

/// A plain directory: the files themselves, and `.troupe/` with what belongs to the store. Fails
/// with `in_use` if a model of another source has that name, unless it is one of `mirrors`.
caf::expected<std::unique_ptr<model_layout>>
make_store_layout(const std::filesystem::path& store, const std::string& name, const location& from,
                  const std::vector<location>& mirrors = {});

/// "models--org--name".
std::string hub_directory_name(const std::string& repository);

/// The snapshot of `from` that the cache holds: of its revision, or commit. Empty if there is none.
std::filesystem::path cached_snapshot(const std::filesystem::path& cache, const location& from);

} // namespace troupe::storage
