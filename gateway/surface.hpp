#pragma once
#include <cstdint>

namespace troupe::gateway {

/// What a listener serves. Health, readiness, version and metrics are on every one.
enum class surface : uint8_t {
  everything,
  api,   ///< what users ask; routes of /admin are unknown there
  admin, ///< /admin alone
};

} // namespace troupe::gateway
