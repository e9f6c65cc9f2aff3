#pragma once
#include <filesystem>
#include <memory>

#include "storage/sources/source.hpp"

namespace troupe::storage {

/// The files of a directory on this machine, or one file alone. Hidden files are left out; links
/// are followed, as a hub cache is made of them. A version is size, modification time and inode.
/// Fails with `not_found` if nothing is at `root`.
caf::expected<std::shared_ptr<source>> open_file_source(const std::filesystem::path& root);

} // namespace troupe::storage
