#pragma once
#include <memory>
#include <string>

#include "storage/disk/disk_reader.hpp"
#include "storage/integrity/checksum.hpp"

namespace troupe::storage {

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
  /// Fails with `changed` if the file is no longer what it was.
  virtual caf::error check_unchanged() const = 0;
};

/// A file on a disk of this machine. `reader` outlives all that read through it: an origin may go
/// away last on the reader's own thread, which cannot wait for itself.
std::shared_ptr<chunk_origin> make_disk_origin(disk_reader& reader,
                                               std::shared_ptr<const disk_file> file);

} // namespace troupe::storage
