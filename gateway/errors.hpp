#pragma once
#include <cstdint>
#include <string>

#include "base/error.hpp"

namespace troupe::gateway {

/// Why the gateway could not start. Append only.
enum class errc : uint8_t {
  /// The host names no address of this machine.
  bad_address = 1,
  /// The address is taken, or the process may not bind it.
  cannot_listen,
};
std::string to_string(errc code);

} // namespace troupe::gateway

CAF_ERROR_CODE_ENUM(troupe::gateway::errc, "gateway")
