#include "engine/errors.hpp"

namespace troupe::engine {

std::string to_string(errc code) {
  switch (code) {
  case errc::invalid_argument:
    return "invalid_argument";
  case errc::invalid_config:
    return "invalid_config";
  case errc::unsupported:
    return "unsupported";
  case errc::missing_tensor:
    return "missing_tensor";
  case errc::wrong_tensor:
    return "wrong_tensor";
  case errc::out_of_memory:
    return "out_of_memory";
  case errc::bad_numbers:
    return "bad_numbers";
  case errc::unreadable:
    return "unreadable";
  case errc::stale:
    return "stale";
  case errc::busy:
    return "busy";
  }
  return "unknown";
}

} // namespace troupe::engine
