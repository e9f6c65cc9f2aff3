#pragma once
#include <filesystem>
#include <map>
#include <string>

#include "storage/sources/source.hpp"

namespace troupe::storage {

/// What is written down of a model in the store: `.troupe/source.json`.
struct store_manifest {
  std::string source;                       ///< the reference it was fetched from
  std::map<std::string, source_file> files; ///< by path, as they were fetched
  /// When they were written to last, as of then.
  std::map<std::string, int64_t> modified_ns{};

  /// Whether nobody has written to a file in `model_dir` since.
  bool is_as_published(const std::filesystem::path& model_dir, const std::string& path) const;
};

std::filesystem::path manifest_file(const std::filesystem::path& model_dir);

/// Empty if there is none or it makes no sense: then the files count as unknown.
store_manifest read_manifest(const std::filesystem::path& model_dir);
store_manifest parse_manifest(std::string_view json);
caf::error write_manifest(const std::filesystem::path& model_dir, const store_manifest& what);

} // namespace troupe::storage
