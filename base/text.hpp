#pragma once
#include <string>
#include <string_view>

namespace troupe {

constexpr char ascii_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

/// A to Z become small; every other byte stays as it is.
std::string ascii_lower(std::string_view text);
/// As `ascii_lower` of both would compare.
bool equal_ignoring_case(std::string_view a, std::string_view b);

} // namespace troupe
