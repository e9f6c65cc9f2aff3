// How the text of one value is read and written, by kind of key.
#include <algorithm>
#include <numeric>

#include "base/text.hpp"
#include "config/errors.hpp"
#include "config/keys.hpp"

namespace troupe::config {
namespace {

caf::error invalid(std::string_view text, const std::string& why) {
  return caf::make_error(errc::invalid_value, "'" + std::string{text} + "' " + why);
}

caf::expected<value> parse_choice(std::span<const std::string_view> choices,
                                  std::string_view text) {
  if (std::ranges::find(choices, text) != choices.end())
    return value{std::string{text}};
  std::string all;
  for (size_t i = 0; i < choices.size(); ++i)
    all += (i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ") + std::string{choices[i]};
  const auto guess = closest(text, choices);
  return invalid(text, "is not known here: write " + all +
                           (guess.empty() ? "" : " (did you mean " + std::string{guess} + "?)"));
}

caf::expected<value> parse_boolean(std::string_view text, bool strict) {
  auto parsed = parse_switch(text);
  if (!parsed)
    return invalid(text, "is neither true nor false");
  // YAML 1.1 and 1.2 disagree about yes and on; editors that check the schema know only these two.
  if (strict && text != "true" && text != "false")
    return invalid(text, std::string{"must be written "} + (*parsed ? "true" : "false"));
  return value{*parsed};
}

caf::expected<value> parse_toggle(std::string_view text, bool strict) {
  if (auto parsed = parse_switch(text)) {
    auto checked = parse_boolean(text, strict);
    if (!checked)
      return checked;
    return value{std::string{*parsed ? "on" : "off"}};
  }
  if (text.empty())
    return invalid(text, "is no directory: write true, false or a path");
  return value{std::string{text}};
}

template <class T>
caf::expected<value> widen(caf::expected<T>&& parsed) {
  if (!parsed)
    return std::move(parsed.error());
  return value{std::move(*parsed)};
}

} // namespace

caf::expected<value> parse_value(kind type, uint64_t min, uint64_t max,
                                 std::span<const std::string_view> choices, std::string_view text,
                                 bool strict) {
  switch (type) {
  case kind::boolean:
    return parse_boolean(text, strict);
  case kind::count:
    return widen(parse_count(text, min, max));
  case kind::size: {
    auto bytes = parse_size(text);
    if (bytes && (*bytes < min || *bytes > max))
      return invalid(text, *bytes < min ? "is too small: at least " + format_size(min)
                                        : "is too large: at most " + format_size(max));
    return widen(std::move(bytes));
  }
  case kind::memory: {
    auto amount = parse_memory(text);
    if (amount && amount->percent == 0 && amount->bytes < min)
      return invalid(text, "is no memory at all: write for example 24GiB or 80%");
    return widen(std::move(amount));
  }
  case kind::duration: {
    auto time = parse_duration(text);
    if (!time)
      return std::move(time.error());
    const auto count = static_cast<uint64_t>(time->count());
    if (count < min || count > max)
      return invalid(text, "is out of range: " + format_duration(std::chrono::milliseconds{min}) +
                               " to " + format_duration(std::chrono::milliseconds{max}));
    return value{*time};
  }
  case kind::keep_alive:
    return widen(parse_keep_alive(text));
  case kind::address:
    return widen(parse_address(text));
  case kind::choice:
    return parse_choice(choices, text);
  case kind::toggle_path:
    return parse_toggle(text, strict);
  case kind::text:
  case kind::path:
    return value{std::string{text}};
  case kind::paths:
  case kind::names:
  case kind::references:
    break;
  }
  return invalid(text, "is one value where a list is needed");
}

bool is_list(kind type) {
  return type == kind::paths || type == kind::names || type == kind::references;
}

namespace {

std::string single_quoted(const std::string& text) {
  std::string quoted = "'"; // inside, only the quote itself is special
  for (const char c : text)
    quoted += c == '\'' ? "''" : std::string(1, c);
  return quoted + "'";
}

/// Keeps line ends and other control characters, which single quotes would fold.
std::string double_quoted(const std::string& text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      quoted += std::string{'\\', c};
    else if (byte < 0x20 || byte == 0x7f)
      quoted += std::string{'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    else
      quoted += c;
  }
  return quoted + "\"";
}

} // namespace

std::string yaml_text(const std::string& text) {
  const auto harmless = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{"_/.+-"}.find(c) != std::string_view::npos;
  };
  const bool plain = !text.empty() && text != "." && text[0] != '-' && text[0] != '+' &&
                     std::ranges::all_of(text, harmless) && !parse_switch(text) && text != "null";
  if (plain)
    return text;
  const bool control =
      std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c >= 0x7f; });
  return control ? double_quoted(text) : single_quoted(text);
}

std::string format_value(kind type, const value& what) {
  struct visitor {
    kind type;
    std::string operator()(bool x) const { return x ? "true" : "false"; }
    std::string operator()(uint64_t x) const {
      return type == kind::size ? format_size(x) : std::to_string(x);
    }
    std::string operator()(const std::string& x) const {
      if (type == kind::toggle_path && (x == "on" || x == "off"))
        return x == "on" ? "true" : "false";
      return yaml_text(x);
    }
    std::string operator()(const std::vector<std::string>& x) const {
      if (type == kind::references && x.size() == 1)
        return yaml_text(x.front());
      std::string text = "[";
      for (const auto& item : x)
        text += (text.size() > 1 ? ", " : "") + yaml_text(item);
      return text + "]";
    }
    std::string operator()(std::chrono::milliseconds x) const { return format_duration(x); }
    std::string operator()(const memory_amount& x) const { return format_memory(x); }
    std::string operator()(const host_port& x) const {
      const std::string text = to_string(x);
      // In brackets it would be a YAML list, and after % a directive.
      return text.find_first_of("[%") != std::string::npos ? single_quoted(text) : text;
    }
  };
  return std::visit(visitor{type}, what);
}

std::string environment_name(std::string_view path) {
  std::string name = "TROUPE_";
  for (const char c : path)
    name += c == '.' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return name;
}

namespace {

/// Edits (insert, delete, change, swap of neighbours) between two short names.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  std::iota(previous.begin(), previous.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        current[j] = std::min(current[j], before[j - 2] + 1);
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

} // namespace

std::string_view closest(std::string_view text, std::span<const std::string_view> candidates) {
  std::string_view best;
  if (text.size() > 64) // no key is that long, and distance is quadratic
    return best;
  auto folded = ascii_lower(text);
  std::ranges::replace(folded, '-', '_');
  size_t limit = std::max<size_t>(1, text.size() / 3) + 1;
  for (const auto candidate : candidates) {
    const size_t distance = edit_distance(folded, candidate);
    if (distance < limit) {
      limit = distance;
      best = candidate;
    }
  }
  return best;
}

} // namespace troupe::config
