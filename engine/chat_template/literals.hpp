#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::engine::jinja {

struct number_literal {
  bool is_real = false;
  bool overflow = false; ///< an integer beyond 64 bits
  int64_t integer = 0;
  double real = 0;
};

/// The size of the number that begins at `at` in template source; 0 when none does.
size_t scan_number(std::string_view source, size_t at, number_literal& out);

/// Resolves the escapes of a string literal. `problem` says what is wrong with one, if anything.
std::string unescape(std::string_view body, std::string& problem);

/// int(text, base) and float(text) of Python: white space around, underscores between digits.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base);
std::optional<double> parse_real(std::string_view text);

} // namespace troupe::engine::jinja
