#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::gateway {

/// Why the gateway could not start. Append only.
enum class errc : uint8_t {
  /// The host names no address of this machine.
  bad_address = 1,
  /// The address is taken, or the process may not bind it.
  cannot_listen,
  /// A certificate or its key cannot be used.
  bad_certificate,
};

} // namespace troupe::gateway

CAF_ERROR_CODE_ENUM(troupe::gateway::errc, "gateway")
