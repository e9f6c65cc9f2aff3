#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "base/error.hpp"

namespace troupe::storage {

/// A file in memory (tmpfs, or an anonymous one), locked by and mapped into this process. Its pages
/// exist from `commit` on; touching others would take them without asking, or raise SIGBUS.
class shared_region {
public:
  /// Opens or makes `path`, or an anonymous region if it is empty. Fails with `in_use` if a living
  /// process has it, with `unreadable` if it cannot be had or belongs to another user.
  static caf::expected<shared_region> open(const std::filesystem::path& path);

  shared_region(shared_region&& other) noexcept;
  shared_region& operator=(shared_region&& other) noexcept;
  ~shared_region();

  /// Bytes of the file now.
  uint64_t size_bytes() const { return size_bytes_; }
  /// Gives the file that size, empties it if `fresh`, and maps it whole.
  caf::error map(uint64_t size_bytes, bool fresh);
  std::byte* data() const { return data_; }
  int fd() const { return fd_; }

  /// Makes a range exist. Fails with `no_memory` if the machine has not the memory.
  caf::error commit(uint64_t offset, uint64_t length);
  /// The same for a range that will be used later: its pages are cleared, but not in the page
  /// tables of this process, so they do not count as its own.
  caf::error prepare(uint64_t offset, uint64_t length);
  /// Enters pages that exist into the page tables, all at once instead of one fault for each.
  /// `fresh`: those that `commit` just made.
  void touch(uint64_t offset, uint64_t length, bool fresh);
  /// Gives a range's memory back. Whatever still writes to the old pages, such as a disk read that
  /// a killed process left behind, does not reach the new ones.
  void punch(uint64_t offset, uint64_t length);

private:
  shared_region() = default;

  std::filesystem::path path_;
  int fd_ = -1;
  std::byte* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;
};

/// Bytes that the file system of `directory` could hold if it were empty; unreadable if there is no
/// such directory, or none for this user.
caf::expected<uint64_t> capacity_of(const std::filesystem::path& directory);

} // namespace troupe::storage
