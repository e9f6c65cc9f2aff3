#include "storage/store/files.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <random>
#include <system_error>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

namespace fs = std::filesystem;

caf::error failure(const fs::path& where, const std::string& what, const std::error_code& why) {
  const auto code = why == std::errc::no_space_on_device ? errc::no_space : errc::unreadable;
  return caf::make_error(code, where.string() + ": " + what + ": " + why.message());
}

caf::error write_file(const fs::path& file, std::string_view content) {
  errno = 0;
  std::ofstream out{file, std::ios::binary};
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  return out.flush() ? caf::error{}
                     : failure(file, "cannot be written", {errno, std::generic_category()});
}

} // namespace

caf::error make_directories(const fs::path& dir) {
  std::error_code failed;
  fs::create_directories(dir, failed);
  return failed ? failure(dir, "cannot be created", failed) : caf::error{};
}

caf::error replace_file(const fs::path& file, std::string_view content) {
  if (auto why = make_directories(file.parent_path()))
    return why;
  const auto fresh = file.string() + ".new-" + std::to_string(std::random_device{}());
  auto why = write_file(fresh, content);
  if (!why)
    why = move_file(fresh, file);
  if (why) {
    std::error_code ignored;
    fs::remove(fresh, ignored);
  }
  return why;
}

caf::error move_file(const fs::path& from, const fs::path& to) {
  if (auto why = make_directories(to.parent_path()))
    return why;
  std::error_code failed;
  fs::rename(from, to, failed);
  return failed ? failure(from, "cannot become " + to.string(), failed) : caf::error{};
}

std::optional<int64_t> last_write_ns(const fs::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0)
    return std::nullopt;
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

caf::expected<uint64_t> free_bytes(const fs::path& dir) {
  auto at = dir;
  std::error_code failed;
  while (!fs::exists(at, failed) && at.has_relative_path())
    at = at.parent_path();
  const auto space = fs::space(at.empty() ? "." : at, failed);
  if (failed)
    return failure(at, "its free space is not known", failed);
  return space.available;
}

} // namespace troupe::storage
