#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/error.hpp"

namespace troupe::storage {

/// What tells one state of a file from every other: a file that was replaced or written to has
/// another identity, a file of two names has one.
struct file_identity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;
  bool operator==(const file_identity&) const = default;
};

/// A regular file opened for bulk reading: past the page cache where the file system can do that.
/// Immutable but for `refuse_direct`; all functions may be called from any thread.
class disk_file {
public:
  /// Fails with `not_found` or `unreadable`. `direct` false never bypasses the page cache.
  static caf::expected<std::shared_ptr<disk_file>> open(const std::filesystem::path& path,
                                                        bool direct = true);
  /// The file that a descriptor, which stays the caller's, is open for; `path` is for messages.
  static caf::expected<std::shared_ptr<disk_file>> of(int fd, const std::filesystem::path& path,
                                                      bool direct = true);
  ~disk_file();
  disk_file(const disk_file&) = delete;
  disk_file& operator=(const disk_file&) = delete;

  const std::filesystem::path& path() const { return path_; }
  uint64_t size_bytes() const { return identity_.size_bytes; }
  /// As of `open`.
  const file_identity& identity() const { return identity_; }
  /// Fails with `changed` if the file has another identity than at `open`.
  caf::error check_unchanged() const;

  int buffered_fd() const { return buffered_; }
  int direct_fd() const { return direct_; }
  /// Direct reads begin and end at multiples of this, in the file and in memory; 0 = there are
  /// none.
  uint32_t alignment() const { return alignment_.load(std::memory_order_relaxed); }
  /// Called when the file system turned a direct read down after all.
  void refuse_direct() const { alignment_.store(0, std::memory_order_relaxed); }

  /// Whether a range lies in the page cache whole, as far as the kernel tells. Copying it from
  /// there is faster than any disk.
  bool is_cached(uint64_t offset, uint64_t length) const;

private:
  disk_file() = default;
  static caf::expected<std::shared_ptr<disk_file>> own(int fd, const std::filesystem::path& path,
                                                       bool direct);

  std::filesystem::path path_;
  int buffered_ = -1;
  int direct_ = -1;
  mutable std::atomic<uint32_t> alignment_{0};
  file_identity identity_;
};

} // namespace troupe::storage
