#pragma once
#include <string>

namespace troupe::gpu {

/// Whose memory a device's is, and how weights lie there.
struct memory_home {
  /// Devices of the same one lay any weight out in the same bytes, and can read each other's
  /// memory; empty = nobody else does.
  std::string layout;
  int ordinal = 0; ///< tells those devices apart, where that matters to a copy

  /// Whether a device here can copy weights from `other` as they are.
  bool takes_from(const memory_home& other) const {
    return !layout.empty() && layout == other.layout;
  }
};

} // namespace troupe::gpu
