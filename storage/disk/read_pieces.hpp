#pragma once
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "storage/disk/disk_reader.hpp"

namespace troupe::storage {

/// One read as its caller asked for it; shared by its pieces.
struct read_job {
  std::shared_ptr<const disk_file> file;
  read_done done;
  std::atomic<size_t> pieces_left{0};
  std::mutex mutex; ///< of the two below: pieces may end on several threads
  caf::error why;   ///< the failure nearest to the beginning
  uint64_t failed_at = 0;
};

/// A part of a read that one system call may carry.
struct read_piece {
  std::shared_ptr<read_job> job;
  uint64_t offset = 0;
  std::byte* into = nullptr;
  size_t length = 0;
  bool direct = false; ///< offset, address and length are aligned

  int fd() const { return direct ? job->file->direct_fd() : job->file->buffered_fd(); }
};

/// Cuts a read up: an unaligned head and tail through the page cache, the rest past it. Never
/// empty; a read of nothing gives one empty piece.
std::vector<read_piece> cut_read(std::shared_ptr<const disk_file> file, uint64_t offset,
                                 std::span<std::byte> into, read_done done, uint32_t piece_bytes);

/// Takes what a system call answered (bytes, or -errno) and returns what is left to be read, if
/// anything. Otherwise the piece is over, and the job with its last piece.
std::optional<read_piece> settle(read_piece piece, ssize_t result);

/// Ends a piece without reading it.
void fail(const read_piece& piece, caf::error why);

std::unique_ptr<disk_reader> make_thread_reader(const disk_reader_options& options);
/// Null if the kernel has no io_uring for us.
std::unique_ptr<disk_reader> make_uring_reader(const disk_reader_options& options);

} // namespace troupe::storage
