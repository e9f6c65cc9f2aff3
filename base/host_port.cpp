#include "base/host_port.hpp"

namespace troupe {

std::string to_string(const host_port& address) {
  const bool bracket = address.host.find(':') != std::string::npos;
  return (bracket ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

} // namespace troupe
