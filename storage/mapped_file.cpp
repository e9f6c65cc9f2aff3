#include "storage/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "storage/errors.hpp"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace troupe::storage {

namespace {

caf::error failure(errc code, const std::filesystem::path& path, const std::string& what) {
  return caf::make_error(code, path.string() + ": " + what);
}

std::string reason(int code) { return std::generic_category().message(code); }

int64_t modified_ns(const struct stat& info) {
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

uint64_t page_bytes() {
  static const auto size = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

} // namespace

caf::expected<mapped_file> mapped_file::open(const std::filesystem::path& path,
                                             const std::filesystem::path& at) {
  mapped_file out;
  out.path_ = path;
  // O_NONBLOCK: opening a FIFO that somebody named like a weight file must not hang.
  out.fd_ = ::open(at.empty() ? path.c_str() : at.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (out.fd_ < 0) {
    const int why = errno;
    if (why == ENOENT)
      return failure(errc::not_found, path, "no such file (or a link that leads nowhere)");
    return failure(errc::unreadable, path, "cannot be opened: " + reason(why));
  }
  struct stat info {};
  if (::fstat(out.fd_, &info) != 0)
    return failure(errc::unreadable, path, "cannot be examined: " + reason(errno));
  if (!S_ISREG(info.st_mode))
    return failure(errc::unreadable, path, "is not a regular file");
  out.size_bytes_ = static_cast<uint64_t>(info.st_size);
  out.modified_ns_ = modified_ns(info);
  if (out.size_bytes_ == 0)
    return out; // an empty range cannot be mapped, and need not be
  void* mapped = ::mmap(nullptr, out.size_bytes_, PROT_READ, MAP_SHARED, out.fd_, 0);
  if (mapped == MAP_FAILED)
    return failure(errc::unreadable, path, "cannot be mapped: " + reason(errno));
  out.data_ = static_cast<const std::byte*>(mapped);
  return out;
}

mapped_file::mapped_file(mapped_file&& other) noexcept { *this = std::move(other); }

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(modified_ns_, other.modified_ns_);
  return *this;
}

mapped_file::~mapped_file() {
  if (data_ != nullptr)
    ::munmap(const_cast<std::byte*>(data_), size_bytes_);
  if (fd_ >= 0)
    ::close(fd_);
}

caf::error mapped_file::read(uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd_, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return failure(errc::unreadable, path_, "cannot be read: " + reason(errno));
    if (got == 0)
      return failure(errc::short_read, path_,
                     "ends at byte " + std::to_string(offset) + ", more was expected");
    into = into.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

void drop_pages(const void* data, size_t size_bytes) {
  const auto page = page_bytes();
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const auto first = (begin + page - 1) / page * page;
  const auto last = (begin + size_bytes) / page * page;
  if (first < last)
    ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

caf::error mapped_file::check_unchanged() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0)
    return failure(errc::unreadable, path_, "cannot be examined: " + reason(errno));
  if (static_cast<uint64_t>(info.st_size) != size_bytes_)
    return failure(errc::changed, path_,
                   "was " + std::to_string(size_bytes_) + " bytes long when it was opened and is " +
                       std::to_string(info.st_size) + " now; load the model again");
  if (modified_ns(info) != modified_ns_)
    return failure(errc::changed, path_,
                   "was written to since it was opened; load the model again");
  return {};
}

void mapped_file::prefetch(uint64_t offset, uint64_t length) const {
  if (offset >= size_bytes_ || length == 0)
    return;
  length = std::min(length, size_bytes_ - offset);
  ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(length), POSIX_FADV_WILLNEED);
}

caf::error mapped_file::populate(uint64_t offset, uint64_t length) const {
  if (offset >= size_bytes_ || length == 0)
    return {};
  length = std::min(length, size_bytes_ - offset);
  if (auto why = check_unchanged())
    return why;
  const uint64_t first = offset / page_bytes() * page_bytes();
  // Unlike a touch, this answers EFAULT where a truncation would make the kernel send SIGBUS.
  int result = 0;
  do
    result = ::madvise(const_cast<std::byte*>(data_) + first, offset + length - first,
                       MADV_POPULATE_READ);
  while (result != 0 && (errno == EINTR || errno == EAGAIN));
  if (result == 0)
    return {};
  if (errno == EFAULT || errno == EHWPOISON) {
    if (auto why = check_unchanged())
      return why;
    return failure(errc::unreadable, path_,
                   "reading from the disk failed near byte " + std::to_string(offset));
  }
  // Kernels before 5.14 do not know the advice.
  volatile const std::byte* at = data_;
  for (uint64_t i = first; i < offset + length; i += page_bytes())
    (void)at[i];
  return {};
}

} // namespace troupe::storage
