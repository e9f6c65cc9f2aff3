#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/error.hpp"

namespace troupe::storage {

/// Directories and whatever is missing above them; fails with a message that names them.
caf::error make_directories(const std::filesystem::path& dir);

/// Writes a file aside and renames it, so that readers see the old or the new one.
caf::error replace_file(const std::filesystem::path& file, std::string_view content);

/// Renames within one file system; makes the directories of `to`.
caf::error move_file(const std::filesystem::path& from, const std::filesystem::path& to);

/// When a file was written to last, in nanoseconds since 1970; nothing if it cannot be examined.
std::optional<int64_t> last_write_ns(const std::filesystem::path& file);

/// Room for an unprivileged user on the file system of `dir`, or of what exists above it.
caf::expected<uint64_t> free_bytes(const std::filesystem::path& dir);

} // namespace troupe::storage
