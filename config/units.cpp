#include "config/units.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/text.hpp"
#include "config/errors.hpp"

namespace troupe::config {

namespace {

caf::error invalid(std::string_view text, std::string_view why) {
  return caf::make_error(errc::invalid_value, "'" + std::string{text} + "' " + std::string{why});
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A decimal number at the front of `text`, cut off from it. Integers stay exact: `whole` and, when
/// there is a point, `fraction` in [0, 1).
struct decimal {
  uint64_t whole = 0;
  double fraction = 0;
};
std::optional<decimal> take_decimal(std::string_view& text) {
  decimal result;
  const auto* end = text.data() + text.size();
  auto [after, failed] = std::from_chars(text.data(), end, result.whole);
  if (failed != std::errc{})
    return std::nullopt;
  text.remove_prefix(static_cast<size_t>(after - text.data()));
  if (text.size() > 1 && text[0] == '.' && is_digit(text[1])) {
    text.remove_prefix(1);
    for (double scale = 0.1; !text.empty() && is_digit(text[0]); scale /= 10) {
      result.fraction += scale * (text[0] - '0');
      text.remove_prefix(1);
    }
  }
  return result;
}

/// whole * unit + fraction * unit, or nothing when it leaves [0, max].
std::optional<uint64_t> scaled(const decimal& number, uint64_t unit, uint64_t max) {
  if (number.whole > max / unit)
    return std::nullopt;
  const uint64_t whole = number.whole * unit;
  const auto rest =
      static_cast<uint64_t>(std::llround(number.fraction * static_cast<double>(unit)));
  if (rest > max - whole)
    return std::nullopt;
  return whole + rest;
}

std::optional<uint64_t> size_unit(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, uint64_t>, 14> units{{
      {"", 1},
      {"B", 1},
      {"K", 1ull << 10},
      {"KiB", 1ull << 10},
      {"KB", 1000ull},
      {"M", 1ull << 20},
      {"MiB", 1ull << 20},
      {"MB", 1000'000ull},
      {"G", 1ull << 30},
      {"GiB", 1ull << 30},
      {"GB", 1000'000'000ull},
      {"T", 1ull << 40},
      {"TiB", 1ull << 40},
      {"TB", 1000'000'000'000ull},
  }};
  for (const auto& [text, factor] : units)
    if (text == name)
      return factor;
  return std::nullopt;
}

std::optional<uint64_t> milliseconds_in(std::string_view unit) {
  if (unit == "ms")
    return 1;
  if (unit.empty() || unit == "s")
    return 1000;
  if (unit == "m" || unit == "min")
    return 60'000;
  if (unit == "h")
    return 3'600'000;
  if (unit == "d")
    return 86'400'000;
  return std::nullopt;
}

constexpr std::string_view size_help = "is not a size: write for example 512MiB or 24GiB";
constexpr std::string_view duration_help =
    "is not a duration: write for example 250ms, 30s, 5m or 1h30m";
// Ten thousand years: longer is a slip of the pen, and sums with it stay far from overflow.
constexpr uint64_t duration_ms_max = 10'000ull * 366 * 86'400'000;

} // namespace

caf::expected<uint64_t> parse_size(std::string_view text) {
  std::string_view rest = text;
  auto number = take_decimal(rest);
  if (!number)
    return invalid(text, text.empty() || !is_digit(text[0]) ? size_help
                                                            : "is too large: sizes end at 16 EiB");
  if (!rest.empty() && rest[0] == ' ')
    rest.remove_prefix(1);
  auto unit = size_unit(rest);
  if (!unit)
    return invalid(text, size_help);
  auto bytes = scaled(*number, *unit, std::numeric_limits<uint64_t>::max());
  if (!bytes)
    return invalid(text, "is too large: sizes end at 16 EiB");
  return *bytes;
}

caf::expected<memory_amount> parse_memory(std::string_view text) {
  if (text.empty() || text.back() != '%') {
    auto bytes = parse_size(text);
    if (!bytes)
      return invalid(text, "is not an amount of memory: write for example 24GiB or 80%");
    return memory_amount{*bytes, 0};
  }
  uint32_t percent = 0;
  const auto* end = text.data() + text.size() - 1;
  auto [after, failed] = std::from_chars(text.data(), end, percent);
  if (failed != std::errc{} || after != end || percent < 1 || percent > 100)
    return invalid(text, "is not a share of memory: write 1% to 100%, or a size such as 24GiB");
  return memory_amount{0, percent};
}

caf::expected<std::chrono::milliseconds> parse_duration(std::string_view text) {
  std::string_view rest = text;
  if (rest.empty())
    return invalid(text, duration_help);
  uint64_t total = 0;
  for (uint64_t last_unit = std::numeric_limits<uint64_t>::max(); !rest.empty();) {
    auto number = take_decimal(rest);
    if (!number)
      return invalid(text, duration_help);
    size_t length = 0;
    while (length < rest.size() && !is_digit(rest[length]))
      ++length;
    auto unit = milliseconds_in(rest.substr(0, length));
    // Only "1h30m" order: "30m1h" is more likely a mistake than meant. A bare number stands alone.
    if (!unit || *unit >= last_unit ||
        (length == 0 && last_unit != std::numeric_limits<uint64_t>::max()))
      return invalid(text, duration_help);
    rest.remove_prefix(length);
    auto part = scaled(*number, *unit, duration_ms_max - total);
    if (!part)
      return invalid(text, "is too long: durations end at ten thousand years");
    total += *part;
    last_unit = *unit;
  }
  return std::chrono::milliseconds{static_cast<int64_t>(total)};
}

caf::expected<std::chrono::milliseconds> parse_keep_alive(std::string_view text) {
  if (text == "auto")
    return keep_alive_auto;
  if (!text.empty() && text[0] == '-') {
    if (!parse_duration(text.substr(1)))
      return invalid(
          text,
          "is not a keep-alive: write for example 5m, 0 (unload at once), -1 (for ever) or auto");
    return std::chrono::milliseconds{-1};
  }
  auto value = parse_duration(text);
  if (!value)
    return invalid(
        text,
        "is not a keep-alive: write for example 5m, 0 (unload at once), -1 (for ever) or auto");
  return value;
}

caf::expected<host_port> parse_address(std::string_view text) {
  constexpr std::string_view help =
      "is not an address: write HOST:PORT, for example 127.0.0.1:11500";
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos)
    return invalid(text, help);
  std::string_view host = text.substr(0, colon);
  if (!host.empty() && host.front() == '[') {
    if (host.size() < 3 || host.back() != ']')
      return invalid(text, help);
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return invalid(text,
                   "is ambiguous: write an IPv6 address in brackets, for example [::1]:11500");
  }
  const auto in_names = [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view{".-_:%"}.find(c) != std::string_view::npos; // % begins an IPv6 zone
  };
  if (host.starts_with('-') || !std::ranges::all_of(host, in_names))
    return invalid(text, help);
  const std::string_view digits = text.substr(colon + 1);
  uint32_t port = 0;
  auto [after, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (failed != std::errc{} || after != digits.data() + digits.size() || port > 65535)
    return invalid(text, "has no valid port: ports are 0 (any free one) to 65535");
  return host_port{host.empty() ? "0.0.0.0" : std::string{host}, static_cast<uint16_t>(port)};
}

caf::expected<uint64_t> parse_count(std::string_view text, uint64_t min, uint64_t max) {
  uint64_t value = 0;
  auto [after, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || failed == std::errc::invalid_argument || after != text.data() + text.size())
    return invalid(text, "is not a whole number from " + std::to_string(min) + " to " +
                             std::to_string(max));
  if (failed != std::errc{} || value < min || value > max)
    return invalid(text, "is out of range: " + std::to_string(min) + " to " + std::to_string(max));
  return value;
}

caf::expected<bool> parse_switch(std::string_view text) {
  const auto lower = ascii_lower(text);
  if (lower == "true" || lower == "on" || lower == "yes" || lower == "1")
    return true;
  if (lower == "false" || lower == "off" || lower == "no" || lower == "0")
    return false;
  return invalid(text, "is neither true nor false");
}

std::string format_size(uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + std::string{units[unit]};
}

std::string format_size_rounded(uint64_t bytes) {
  static constexpr std::array<std::string_view, 7> units{"B",   "KiB", "MiB", "GiB",
                                                         "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  const auto tenths = static_cast<uint64_t>(std::llround(value * 10));
  std::string text = std::to_string(tenths / 10);
  // Whole bytes, and three digits are enough for anybody.
  if (unit > 0 && tenths < 1000)
    text += "." + std::to_string(tenths % 10);
  return text + " " + std::string{units[unit]};
}

std::string format_memory(const memory_amount& amount) {
  return amount.percent ? std::to_string(amount.percent) + "%" : format_size(amount.bytes);
}

std::string format_duration(std::chrono::milliseconds value) {
  if (value == keep_alive_auto)
    return "auto";
  if (value.count() < 0)
    return "-1";
  static constexpr std::array<std::pair<std::string_view, int64_t>, 5> units{
      {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
  std::string text;
  int64_t rest = value.count();
  for (const auto& [name, length] : units) {
    if (rest < length)
      continue;
    text += std::to_string(rest / length) + std::string{name};
    rest %= length;
  }
  return text.empty() ? "0s" : text;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

bool is_glob(std::string_view pattern) {
  return pattern.find_first_of("*?") != std::string_view::npos;
}

bool is_loopback(std::string_view host) {
  return host.starts_with("127.") || host == "::1" || host == "localhost";
}

std::string reachable_host(const std::string& host) {
  if (host.empty() || host == "0.0.0.0")
    return "127.0.0.1";
  return host == "::" ? "::1" : host;
}

} // namespace troupe::config
