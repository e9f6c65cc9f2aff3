#include "storage/disk/disk_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// Right for every device in use where the kernel (before 6.1) does not tell.
constexpr uint32_t usual_alignment = 4096;

caf::error failure(errc code, const std::filesystem::path& path, const std::string& what) {
  return caf::make_error(code, path.string() + ": " + what);
}

std::string reason(int code) { return std::generic_category().message(code); }

file_identity identity_of(const struct stat& info) {
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .size_bytes = static_cast<uint64_t>(info.st_size),
          .modified_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

/// 0 if the file system takes the flag but then knows no direct reads of this file.
uint32_t direct_alignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx info {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0)
    return info.stx_dio_offset_align == 0
               ? 0
               : std::max({usual_alignment, info.stx_dio_mem_align, info.stx_dio_offset_align});
#else
  (void)fd;
#endif
  return usual_alignment;
}

} // namespace

caf::expected<std::shared_ptr<disk_file>> disk_file::open(const std::filesystem::path& path,
                                                          bool direct) {
  // O_NONBLOCK: opening a FIFO that somebody named like a weight file must not hang.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int why = errno;
    if (why == ENOENT)
      return failure(errc::not_found, path, "no such file (or a link that leads nowhere)");
    return failure(errc::unreadable, path, "cannot be opened: " + reason(why));
  }
  return own(fd, path, direct);
}

caf::expected<std::shared_ptr<disk_file>> disk_file::of(int fd, const std::filesystem::path& path,
                                                        bool direct) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0)
    return failure(errc::unreadable, path, "cannot be opened: " + reason(errno));
  return own(copy, path, direct);
}

caf::expected<std::shared_ptr<disk_file>> disk_file::own(int fd, const std::filesystem::path& path,
                                                         bool direct) {
  const std::shared_ptr<disk_file> out{new disk_file};
  out->path_ = path;
  out->buffered_ = fd;
  struct stat info {};
  if (::fstat(out->buffered_, &info) != 0)
    return failure(errc::unreadable, path, "cannot be examined: " + reason(errno));
  if (!S_ISREG(info.st_mode))
    return failure(errc::unreadable, path, "is not a regular file");
  out->identity_ = identity_of(info);
  // Kept, the flag would make rings of older kernels answer EAGAIN for whatever is not cached.
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  if (!direct)
    return out;
  // By the descriptor, not by the name: that may lead to another file by now.
  const auto self = "/proc/self/fd/" + std::to_string(out->buffered_);
  out->direct_ = ::open(self.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (out->direct_ < 0)
    return out; // some file systems know no direct reads
  out->alignment_ = direct_alignment(out->direct_);
  return out;
}

disk_file::~disk_file() {
  for (const int fd : {buffered_, direct_})
    if (fd >= 0)
      ::close(fd);
}

caf::error disk_file::check_unchanged() const {
  struct stat info {};
  if (::fstat(buffered_, &info) != 0)
    return failure(errc::unreadable, path_, "cannot be examined: " + reason(errno));
  if (identity_of(info) != identity_)
    return failure(errc::changed, path_,
                   "was written to or truncated since it was opened; load the model again");
  return {};
}

bool disk_file::is_cached(uint64_t offset, uint64_t length) const {
  // cachestat(2), Linux 6.5; the C library of Debian 12 has no name for it.
  constexpr long cachestat_number = 451;
  struct {
    uint64_t offset, length;
  } range{offset, length};
  struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } found{};
  if (length == 0 || offset >= size_bytes())
    return true;
  range.length = std::min(length, size_bytes() - offset);
  if (::syscall(cachestat_number, static_cast<unsigned>(buffered_), &range, &found, 0u) != 0)
    return false;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto pages = (offset + range.length - 1) / page - offset / page + 1;
  return found.cached >= pages;
}

} // namespace troupe::storage
