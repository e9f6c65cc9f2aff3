#include "engine/chat_template/errors.hpp"

namespace troupe::engine {

std::string to_string(template_errc code) {
  switch (code) {
  case template_errc::syntax:
    return "syntax";
  case template_errc::unsupported:
    return "unsupported";
  case template_errc::runtime:
    return "runtime";
  case template_errc::raised:
    return "raised";
  case template_errc::limit:
    return "limit";
  }
  return "unknown";
}

} // namespace troupe::engine
