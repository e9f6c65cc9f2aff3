#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/error.hpp"
#include "storage/disk/disk_file.hpp"

namespace troupe::storage {

enum class disk_backend : uint8_t {
  automatic, ///< io_uring where the kernel lets us, threads elsewhere
  io_uring,
  threads,
};

struct disk_reader_options {
  disk_backend backend = disk_backend::automatic;
  /// Reads are cut into pieces of so many bytes, a multiple of 4096, and so many pieces are under
  /// way at once: what a kill makes be read twice. The disk gives no more with larger pieces.
  uint32_t piece_bytes = 256u << 10;
  uint32_t depth = 16;
};

/// Called once when a read is over, on a thread of the reader; must not block.
using read_done = std::function<void(caf::error)>;

/// Reads files into memory in the background, in about the order of the calls.
///
/// Any offset, length and buffer will do. Fast are those that agree modulo `disk_file::alignment`:
/// then all but an unaligned head and tail bypasses the page cache. What lies in the page cache
/// already is copied from there.
class disk_reader {
public:
  /// Reads under way are finished, those not yet begun fail with `cancelled`.
  virtual ~disk_reader() = default;
  /// Fills `into` from `offset`; both have to stay until `done` ran. Fails with `short_read` if the
  /// file ends before, with `unreadable` if the system cannot read it; messages name file and
  /// offset. May be called from any thread, also from within `done`.
  virtual void read(std::shared_ptr<const disk_file> file, uint64_t offset,
                    std::span<std::byte> into, read_done done) = 0;
  /// The backend in use; never `automatic`.
  virtual disk_backend backend() const = 0;
};

/// Starts a reader. Fails with `unsupported` if io_uring was asked for by name and is not to be
/// had.
caf::expected<std::unique_ptr<disk_reader>> make_disk_reader(disk_reader_options options = {});

} // namespace troupe::storage
