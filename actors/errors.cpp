#include "actors/errors.hpp"

namespace troupe::actors {

std::string to_string(errc code) {
  switch (code) {
  case errc::model_not_found:
    return "model_not_found";
  case errc::shutting_down:
    return "shutting_down";
  case errc::load_failed:
    return "load_failed";
  case errc::files_broken:
    return "files_broken";
  case errc::no_capacity:
    return "no_capacity";
  case errc::invalid_options:
    return "invalid_options";
  case errc::unreachable:
    return "unreachable";
  case errc::timed_out:
    return "timed_out";
  case errc::internal:
    return "internal";
  }
  return "unknown";
}

} // namespace troupe::actors
