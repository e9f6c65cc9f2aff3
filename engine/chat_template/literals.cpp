#include "engine/chat_template/literals.hpp"

#include <cstdlib>
#include <limits>

#include "engine/chat_template/failure.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

int digit_value(char c) {
  if (is_ascii_digit(c))
    return c - '0';
  const char low = static_cast<char>(c | 0x20);
  return low >= 'a' && low <= 'z' ? low - 'a' + 10 : 99;
}

/// End of the digits of `base` at `at`, single underscores between them allowed; `at` if none.
size_t skip_digits(std::string_view text, size_t at, int base) {
  const auto good = [&](size_t i) { return i < text.size() && digit_value(text[i]) < base; };
  if (!good(at))
    return at;
  for (++at;; ++at) {
    if (good(at))
      continue;
    if (at < text.size() && text[at] == '_' && good(at + 1))
      continue;
    return at;
  }
}

std::string without_underscores(std::string_view text) {
  std::string out;
  for (char c : text)
    if (c != '_')
      out += c;
  return out;
}

/// Digits of `base` to a number; false when it leaves 64 bits.
bool accumulate(std::string_view digits, int base, bool negative, int64_t& out) {
  out = 0;
  for (char c : digits) {
    if (c == '_')
      continue;
    const int digit = digit_value(c);
    if (__builtin_mul_overflow(out, int64_t{base}, &out) ||
        __builtin_add_overflow(out, int64_t{negative ? -digit : digit}, &out))
      return false;
  }
  return true;
}

size_t real_end(std::string_view source, size_t at) {
  const size_t whole = skip_digits(source, at, 10);
  if (whole == at || (at > 0 && source[at - 1] == '.'))
    return at;
  size_t end = whole;
  if (end < source.size() && source[end] == '.') {
    const size_t fraction = skip_digits(source, end + 1, 10);
    if (fraction > end + 1)
      end = fraction;
  }
  if (end < source.size() && (source[end] | 0x20) == 'e') {
    size_t digits = end + 1;
    if (digits < source.size() && (source[digits] == '+' || source[digits] == '-'))
      ++digits;
    if (const size_t exponent = skip_digits(source, digits, 10); exponent > digits)
      return exponent;
  }
  return end > whole ? end : at;
}

uint32_t hex_escape(std::string_view body, size_t& at, size_t width, std::string& problem) {
  uint32_t point = 0;
  for (size_t i = 0; i < width; ++i, ++at) {
    if (at >= body.size() || digit_value(body[at]) > 15) {
      problem = "truncated \\" +
                std::string(width == 2   ? "x"
                            : width == 4 ? "u"
                                         : "U") +
                "X escape in a string";
      return 0;
    }
    point = point * 16 + static_cast<uint32_t>(digit_value(body[at]));
  }
  if (point > 0x10ffff)
    problem = "illegal Unicode character in a string";
  return point;
}

uint32_t octal_escape(std::string_view body, size_t& at) {
  uint32_t point = 0;
  for (int i = 0; i < 3 && at < body.size() && body[at] >= '0' && body[at] <= '7'; ++i, ++at)
    point = point * 8 + static_cast<uint32_t>(body[at] - '0');
  return point;
}

/// One escape; `at` is behind the backslash.
void append_escape(std::string& out, std::string_view body, size_t& at, std::string& problem) {
  static constexpr std::string_view letters = "nrtabfv\\'\"";
  static constexpr std::string_view meanings = "\n\r\t\a\b\f\v\\'\"";
  const char c = body[at];
  if (const size_t known = letters.find(c); known != letters.npos) {
    out += meanings[known];
    ++at;
  } else if (c == '\n') {
    ++at;
  } else if (c >= '0' && c <= '7') {
    append_point(out, octal_escape(body, at));
  } else if (c == 'x' || c == 'u' || c == 'U') {
    ++at;
    const uint32_t point = hex_escape(body, at, c == 'x' ? 2 : c == 'u' ? 4 : 8, problem);
    if (problem.empty())
      append_point(out, point);
  } else if (c == 'N') {
    problem = "named characters (\\N{...}) in a string are not supported: write the character";
  } else {
    out += '\\'; // Python keeps an escape that it does not know
  }
}

} // namespace

size_t scan_number(std::string_view source, size_t at, number_literal& out) {
  if (!is_ascii_digit(source[at]))
    return 0;
  if (const size_t end = real_end(source, at); end > at) {
    out.is_real = true;
    out.real = std::strtod(without_underscores(source.substr(at, end - at)).c_str(), nullptr);
    return end - at;
  }
  int base = 10;
  size_t digits = at;
  if (source[at] == '0') {
    const char mark = at + 1 < source.size() ? static_cast<char>(source[at + 1] | 0x20) : ' ';
    base = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 1;
    digits = base == 1 ? at : at + 2;
    if (base != 1 && digits < source.size() && source[digits] == '_')
      ++digits;
  }
  size_t end = skip_digits(source, digits, base);
  if (base != 1 && base != 10 && end == digits) { // "0x" and nothing behind it: just the zero
    base = 1;
    digits = at;
    end = skip_digits(source, at, base);
  }
  out.overflow = !accumulate(source.substr(digits, end - digits), base, false, out.integer);
  return end - at;
}

std::string unescape(std::string_view body, std::string& problem) {
  std::string out;
  out.reserve(body.size());
  for (size_t at = 0; at < body.size() && problem.empty();) {
    if (body[at] != '\\') {
      out += body[at++];
      continue;
    }
    ++at;
    append_escape(out, body, at, problem);
  }
  return out;
}

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  text = strip_space(text, true, true);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (base == 0 || base == 2 || base == 8 || base == 16) {
    const char mark = text.size() > 1 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : ' ';
    const int64_t named = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 0;
    if (named != 0 && (base == 0 || base == named)) {
      base = named;
      text.remove_prefix(2);
      if (text.starts_with('_'))
        text.remove_prefix(1);
    } else if (base == 0) {
      if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos)
        return std::nullopt; // int("012", 0) is an error
      base = 10;
    }
  }
  if (text.empty() || skip_digits(text, 0, static_cast<int>(base)) != text.size())
    return std::nullopt;
  int64_t out = 0;
  if (!accumulate(text, static_cast<int>(base), negative, out))
    fail("an integer does not fit in 64 bits");
  return out;
}

std::optional<double> parse_real(std::string_view text) {
  text = strip_space(text, true, true);
  std::string low = lower(text);
  std::string_view body = low;
  if (!body.empty() && (body[0] == '-' || body[0] == '+'))
    body.remove_prefix(1);
  const double sign = low.starts_with('-') ? -1 : 1;
  if (body == "inf" || body == "infinity")
    return sign * std::numeric_limits<double>::infinity();
  if (body == "nan")
    return std::numeric_limits<double>::quiet_NaN();
  size_t at = skip_digits(body, 0, 10);
  const bool whole = at > 0;
  bool fraction = false;
  if (at < body.size() && body[at] == '.') {
    const size_t end = skip_digits(body, at + 1, 10);
    fraction = end > at + 1;
    at = end;
  }
  if (!whole && !fraction)
    return std::nullopt;
  if (at < body.size() && body[at] == 'e') {
    size_t digits = at + 1;
    if (digits < body.size() && (body[digits] == '-' || body[digits] == '+'))
      ++digits;
    const size_t end = skip_digits(body, digits, 10);
    if (end == digits)
      return std::nullopt;
    at = end;
  }
  if (at != body.size())
    return std::nullopt;
  return std::strtod(without_underscores(low).c_str(), nullptr);
}

} // namespace troupe::engine::jinja
