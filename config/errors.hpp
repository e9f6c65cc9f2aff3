#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::config {

/// What can be wrong with a configuration. Append only.
enum class errc : uint8_t {
  /// A text is not of the form that its place asks for.
  invalid_value = 1,
  /// A configuration file cannot be read.
  unreadable,
};

} // namespace troupe::config

CAF_ERROR_CODE_ENUM(troupe::config::errc, "config")
