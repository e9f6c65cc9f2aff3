#pragma once
#include <cstdint>
#include <string>

namespace troupe {

/// A network address as people write it.
struct host_port {
  std::string host; ///< a name or an address; IPv6 without brackets
  uint16_t port = 0;
  bool operator==(const host_port&) const = default;
};

/// "HOST:PORT", IPv6 hosts in brackets.
std::string to_string(const host_port& address);

} // namespace troupe
