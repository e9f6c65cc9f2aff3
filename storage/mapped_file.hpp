#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/error.hpp"

namespace troupe::storage {

/// Takes the whole pages within a part of a mapped file out of this process; they come back when
/// they are read. Never call it on other memory: that would lose its contents.
void drop_pages(const void* data, size_t size_bytes);

/// A regular file, mapped read-only as long as this object lives. Moving keeps the address.
///
/// Reading `bytes()` raises SIGBUS where the file was truncated in place after `open`; replacing a
/// file by rename, as hub clients do, is harmless. `check_unchanged` and `populate` notice a
/// truncation without a signal, so call one of them before a burst of reading.
class mapped_file {
public:
  /// Fails with `not_found` or `unreadable`. `at` = where the file called `path` really lies now;
  /// empty = there.
  static caf::expected<mapped_file> open(const std::filesystem::path& path,
                                         const std::filesystem::path& at = {});

  mapped_file(mapped_file&& other) noexcept;
  mapped_file& operator=(mapped_file&& other) noexcept;
  ~mapped_file();

  const std::filesystem::path& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  int fd() const { return fd_; } ///< stays this object's
  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }

  /// Copies `into.size()` bytes from `offset`, not through the mapping: safe against truncation and
  /// against another process that writes while the bytes are looked at.
  caf::error read(uint64_t offset, std::span<std::byte> into) const;

  /// Fails with `changed` if the file has become shorter, or was written to, since `open`.
  caf::error check_unchanged() const;

  /// Asks the kernel to start reading a range; returns at once and never fails.
  void prefetch(uint64_t offset, uint64_t length) const;

  /// Reads a range into memory and maps its pages, so that touching them later does not block.
  caf::error populate(uint64_t offset, uint64_t length) const;

private:
  mapped_file() = default;

  std::filesystem::path path_;
  int fd_ = -1;
  const std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  int64_t modified_ns_ = 0;
};

} // namespace troupe::storage
