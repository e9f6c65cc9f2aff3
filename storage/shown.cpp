#include "storage/shown.hpp"

namespace troupe::storage {

std::string shown(std::string_view name) {
  std::string out = "\"";
  for (const char c : name.substr(0, 120))
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '"' ? '?' : c;
  return out + (name.size() > 120 ? "...\"" : "\"");
}

} // namespace troupe::storage
