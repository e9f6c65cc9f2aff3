#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::gpu {

/// Append only: the numbers travel between nodes.
enum class errc : uint8_t {
  /// The device cannot give that much memory now.
  out_of_memory = 1,
  /// No such device, or no way to use it here.
  unavailable = 2,
  /// The device failed in the middle of its work; what it holds is lost.
  device_failed = 3,
};

} // namespace troupe::gpu

CAF_ERROR_CODE_ENUM(troupe::gpu::errc, "gpu")
