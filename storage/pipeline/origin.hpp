#pragma once
#include <functional>
#include <memory>
#include <string>

#include "storage/disk/disk_reader.hpp"
#include "storage/integrity/checksum.hpp"

namespace troupe::storage {

class arrival;

/// One file that chunks come from, in one state. Functions may be called from any thread.
class chunk_origin {
public:
  virtual ~chunk_origin() = default;
  /// For messages.
  virtual std::string name() const = 0;
  virtual uint64_t size_bytes() const = 0;
  /// A digest of what tells this state of the file from every other.
  virtual checksum key() const = 0;
  /// As `disk_reader::read`.
  virtual void read(uint64_t offset, std::span<std::byte> into, read_done done) = 0;
  /// Calls `then` once a read of that range would not have to wait for bytes that are still to be
  /// fetched, or would fail; on any thread, and with nothing said once nobody wants to hear. True
  /// if that is so already: then it is not called.
  virtual bool is_there(uint64_t, uint64_t /*length*/, std::function<void()> /*then*/) {
    return true;
  }
  /// Whether a read of that range comes out of this machine's memory.
  virtual bool is_cached(uint64_t, uint64_t /*length*/) const { return false; }
  /// Fails with `changed` if the file is no longer what it was.
  virtual caf::error check_unchanged() const = 0;
};

/// The key of a file on a disk of this machine.
checksum key_of(const disk_file& file);

/// A file on a disk of this machine. `reader` outlives all that read through it: an origin may go
/// away last on the reader's own thread, which cannot wait for itself.
std::shared_ptr<chunk_origin> make_disk_origin(disk_reader& reader,
                                               std::shared_ptr<const disk_file> file);

/// A file on its way to the disk, whose chunks can be read as soon as they have come. It has the
/// key that the finished file will have. As `make_disk_origin`.
std::shared_ptr<chunk_origin> make_arriving_origin(disk_reader& reader,
                                                   std::shared_ptr<arrival> file);

} // namespace troupe::storage
