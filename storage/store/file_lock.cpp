#include "storage/store/file_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "storage/errors.hpp"
#include "storage/sources/retry.hpp"

namespace troupe::storage {

namespace {

/// flock cannot be waited for together with a stop request; a person does not notice this.
constexpr std::chrono::milliseconds look_again{50};

caf::error failure(const std::filesystem::path& file, int code) {
  return caf::make_error(errc::unreadable,
                         "locking " + file.string() + ": " + std::generic_category().message(code));
}

/// Whether `fd` is still what stands at `file`: who removes a model removes its locks with it.
bool is_current(int fd, const std::filesystem::path& file) {
  struct stat held {
  }, there{};
  return ::fstat(fd, &held) == 0 && ::stat(file.c_str(), &there) == 0 &&
         held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

} // namespace

caf::expected<std::optional<file_lock>> file_lock::try_lock(const std::filesystem::path& file,
                                                            mode how) {
  while (true) {
    std::error_code failed;
    std::filesystem::create_directories(file.parent_path(), failed);
    if (failed)
      return failure(file, failed.value());
    file_lock out{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)};
    if (out.fd_ < 0)
      return failure(file, errno);
    if (::flock(out.fd_, (how == mode::shared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
      if (errno == EINTR)
        continue;
      if (errno == EWOULDBLOCK)
        return std::optional<file_lock>{};
      return failure(file, errno);
    }
    if (is_current(out.fd_, file))
      return std::optional<file_lock>{std::move(out)};
  }
}

caf::expected<file_lock> file_lock::lock(const std::filesystem::path& file, mode how,
                                         const std::stop_token& stop) {
  while (true) {
    auto got = try_lock(file, how);
    if (!got)
      return std::move(got.error());
    if (*got)
      return std::move(**got);
    if (!wait_for(look_again, stop))
      return caf::make_error(errc::cancelled, "waiting for " + file.string() + ": cancelled");
  }
}

file_lock::file_lock(file_lock&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}

file_lock& file_lock::operator=(file_lock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

file_lock::~file_lock() {
  if (fd_ >= 0)
    ::close(fd_);
}

} // namespace troupe::storage
