#include "storage/pool/shared_region.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace {

std::string reason(int code) { return std::generic_category().message(code); }

caf::error failure(errc code, const std::filesystem::path& path, const std::string& what) {
  return caf::make_error(code, "host pool " + (path.empty() ? "(anonymous)" : path.string()) +
                                   ": " + what);
}

} // namespace

caf::expected<shared_region> shared_region::open(const std::filesystem::path& path) {
  shared_region out;
  out.path_ = path;
  if (path.empty()) {
    out.fd_ = ::memfd_create("troupe-pool", MFD_CLOEXEC);
    if (out.fd_ < 0)
      return failure(errc::unreadable, path, "cannot be made: " + reason(errno));
    return out;
  }
  // Everybody may write to /dev/shm: follow no link, and take no file that is not ours.
  out.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (out.fd_ < 0)
    return failure(errc::unreadable, path, "cannot be opened: " + reason(errno));
  struct stat info {};
  if (::fstat(out.fd_, &info) != 0)
    return failure(errc::unreadable, path, "cannot be examined: " + reason(errno));
  if (!S_ISREG(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077) != 0)
    return failure(errc::unreadable, path,
                   "is not a regular file that only this user can open; remove it");
  if (::flock(out.fd_, LOCK_EX | LOCK_NB) != 0)
    return failure(errc::in_use, path, "is in use by another process");
  out.size_bytes_ = static_cast<uint64_t>(info.st_size);
  return out;
}

shared_region::shared_region(shared_region&& other) noexcept { *this = std::move(other); }

shared_region& shared_region::operator=(shared_region&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  return *this;
}

shared_region::~shared_region() {
  if (data_ != nullptr)
    ::munmap(data_, mapped_bytes_);
  if (fd_ >= 0)
    ::close(fd_);
}

caf::error shared_region::map(uint64_t size_bytes, bool fresh) {
  if (data_ != nullptr)
    ::munmap(std::exchange(data_, nullptr), mapped_bytes_);
  if ((fresh && ::ftruncate(fd_, 0) != 0) || ::ftruncate(fd_, static_cast<off_t>(size_bytes)) != 0)
    return failure(errc::no_memory, path_, "cannot be resized: " + reason(errno));
  size_bytes_ = size_bytes;
  void* at =
      ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_, 0);
  if (at == MAP_FAILED)
    return failure(errc::no_memory, path_, "cannot be mapped: " + reason(errno));
  data_ = static_cast<std::byte*>(at);
  mapped_bytes_ = size_bytes;
  return {};
}

caf::error shared_region::commit(uint64_t offset, uint64_t length) {
  int result = 0;
  do
    result = ::fallocate(fd_, 0, static_cast<off_t>(offset), static_cast<off_t>(length));
  while (result != 0 && errno == EINTR);
  if (result != 0)
    return failure(errc::no_memory, path_,
                   "has no memory for " + std::to_string(length) + " more bytes: " + reason(errno));
  return {};
}

caf::error shared_region::prepare(uint64_t offset, uint64_t length) {
  // Short writes: others who want pages of this file wait for each.
  static constexpr std::array<std::byte, 256 << 10> zeros{};
  while (length > 0) {
    const auto wrote =
        ::pwrite(fd_, zeros.data(), std::min(length, zeros.size()), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR)
      continue;
    if (wrote <= 0)
      return failure(errc::no_memory, path_, "cannot be made ready: " + reason(errno));
    offset += static_cast<uint64_t>(wrote);
    length -= static_cast<uint64_t>(wrote);
  }
  return {};
}

void shared_region::touch(uint64_t offset, uint64_t length, bool fresh) {
  // Pages that were only allocated are cleared when they are first written to; those that exist
  // are entered many at once when they are read, and may be written to all the same. Where the
  // kernel does not know the advice (before 5.14) faults do the work.
  ::madvise(data_ + offset, length, fresh ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

void shared_region::punch(uint64_t offset, uint64_t length) {
  ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
              static_cast<off_t>(length));
}

caf::expected<uint64_t> capacity_of(const std::filesystem::path& directory) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0)
    return failure(errc::unreadable, directory, "cannot lie there: " + reason(errno));
  return uint64_t{info.f_blocks} * info.f_frsize;
}

} // namespace troupe::storage
