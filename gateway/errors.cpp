#include "gateway/errors.hpp"

namespace troupe::gateway {

std::string to_string(errc code) {
  switch (code) {
  case errc::bad_address:
    return "bad_address";
  case errc::cannot_listen:
    return "cannot_listen";
  }
  return "unknown";
}

} // namespace troupe::gateway
