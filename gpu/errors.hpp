#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::gpu {

/// Append only: the numbers travel between nodes.
enum class errc : uint8_t {
  /// The device cannot give that much memory now.
  out_of_memory = 1,
};

} // namespace troupe::gpu

CAF_ERROR_CODE_ENUM(troupe::gpu::errc, "gpu")
