#include "engine/tokenizer/errors.hpp"

namespace troupe::engine {

std::string to_string(tokenizer_errc code) {
  switch (code) {
  case tokenizer_errc::unreadable:
    return "unreadable";
  case tokenizer_errc::malformed:
    return "malformed";
  case tokenizer_errc::unsupported:
    return "unsupported";
  }
  return "unknown";
}

} // namespace troupe::engine
