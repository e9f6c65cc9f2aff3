#pragma once
#include <algorithm>
#include <cstdint>

namespace troupe::policies {

/// What models take of a worker's memory: each its own bytes, and all together one workspace, as
/// large as the one that needs most of it.
struct footprint {
  uint64_t own_bytes = 0; ///< weights
  uint64_t workspace_bytes = 0;

  constexpr footprint(uint64_t own = 0, uint64_t workspace = 0)
      : own_bytes{own}, workspace_bytes{workspace} {}
  /// Of both together; what is more than can be counted stays the most that can.
  constexpr footprint& operator+=(const footprint& x) {
    own_bytes = sum(own_bytes, x.own_bytes);
    workspace_bytes = std::max(workspace_bytes, x.workspace_bytes);
    return *this;
  }
  constexpr uint64_t all() const { return sum(own_bytes, workspace_bytes); }
  bool operator==(const footprint&) const = default;

private:
  static constexpr uint64_t sum(uint64_t a, uint64_t b) { return a + std::min(b, UINT64_MAX - a); }
};

} // namespace troupe::policies
