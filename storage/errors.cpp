#include "storage/errors.hpp"

namespace troupe::storage {

std::string to_string(errc code) {
  switch (code) {
  case errc::not_found:
    return "not_found";
  case errc::unreadable:
    return "unreadable";
  case errc::short_read:
    return "short_read";
  case errc::malformed:
    return "malformed";
  case errc::unsupported:
    return "unsupported";
  case errc::inconsistent:
    return "inconsistent";
  case errc::not_downloaded:
    return "not_downloaded";
  case errc::changed:
    return "changed";
  case errc::cancelled:
    return "cancelled";
  case errc::unavailable:
    return "unavailable";
  case errc::denied:
    return "denied";
  case errc::bad_reference:
    return "bad_reference";
  case errc::corrupted:
    return "corrupted";
  case errc::no_space:
    return "no_space";
  case errc::in_use:
    return "in_use";
  case errc::no_memory:
    return "no_memory";
  }
  return "unknown";
}

} // namespace troupe::storage
