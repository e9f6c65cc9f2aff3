#pragma once
#include <filesystem>

#include "storage/disk/disk_reader.hpp"

namespace troupe::storage {

/// Bytes per second; 0 = could not be measured.
struct probed_rates {
  double disk = 0;   ///< past the page cache
  double memory = 0; ///< verifying what is in memory, with as many threads as a load has
};

/// Reads a part of `file` and looks at it, some tens of milliseconds at most on usual disks. A
/// file that lies in the page cache says nothing about its disk. Blocks.
probed_rates probe_tiers(disk_reader& reader, const std::filesystem::path& file);

} // namespace troupe::storage
