#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::schemas {

/// Append only: the numbers travel between nodes.
enum class errc : uint8_t {
  /// Bytes are not the message that they should be.
  malformed = 1,
};

} // namespace troupe::schemas

CAF_ERROR_CODE_ENUM(troupe::schemas::errc, "schemas")
