#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::storage {

/// What can be wrong with checkpoint bytes. Append only: the numbers travel between nodes.
enum class errc : uint8_t {
  /// A file or directory of the checkpoint does not exist.
  not_found = 1,
  /// The operating system refused to open, map or read a file.
  unreadable,
  /// A file ends before the length its header promises.
  short_read,
  /// A header or an index is not what its format demands.
  malformed,
  /// Well formed, but of a kind that is not served (element type, weight format).
  unsupported,
  /// The index and the shards of a checkpoint contradict each other.
  inconsistent,
  /// A Git LFS pointer stands where the weights should be.
  not_downloaded,
  /// A file was truncated or rewritten while it was in use.
  changed,
  /// The caller asked to stop.
  cancelled,
  /// A source cannot be reached or refuses for now; the same may work later.
  unavailable,
  /// A source wants credentials, or others.
  denied,
  /// A reference to a model or an address that makes no sense.
  bad_reference,
  /// Bytes do not have the checksum that they should have.
  corrupted,
  /// Not enough room on the disk.
  no_space,
  /// A model is in use and must stay.
  in_use,
  /// The machine has not the memory.
  no_memory,
  /// What was asked for is on its way to whoever was asked; the same works later.
  not_yet,
};

} // namespace troupe::storage

CAF_ERROR_CODE_ENUM(troupe::storage::errc, "storage")
