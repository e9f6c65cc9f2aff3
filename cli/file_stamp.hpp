#pragma once
#include <cstdint>
#include <filesystem>

namespace troupe::cli {

/// Tells one content of a file from another, as far as a look at it can.
struct file_stamp {
  std::filesystem::file_time_type written{};
  uintmax_t size = 0;
  bool operator==(const file_stamp&) const = default;
};

/// An empty stamp when there is no such file; links are followed.
inline file_stamp stamp_of(const std::filesystem::path& file) {
  std::error_code missing;
  file_stamp out{std::filesystem::last_write_time(file, missing), 0};
  out.size = std::filesystem::file_size(file, missing);
  return missing ? file_stamp{} : out;
}

} // namespace troupe::cli
