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
  }
  return "unknown";
}

} // namespace troupe::storage
