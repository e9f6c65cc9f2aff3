#include "engine/tokenizer/regex_syntax.hpp"

#include "engine/tokenizer/errors.hpp"
#include "engine/tokenizer/young_properties.hpp"

namespace troupe::engine {

namespace {

/// Oniguruma's \w inside a class. Outside, it takes Latin-1's superscripts and fractions as well.
#define WORD R"(\p{Alphabetic}\p{L}\p{M}\p{Nd}\p{Pc})"
#define WORD_OUTSIDE WORD R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})"

struct escape {
  char letter;
  const char* outside; ///< a class
  const char* inside;  ///< a class; null: cannot be said there
};
// PCRE2's \s has U+180E, which the property and every other engine lack; its \w lacks marks; its
// \b follows its \w; its \h is horizontal space, not a hexadecimal digit.
constexpr escape escapes[] = {
    {'s', R"(\p{White_Space})", R"(\p{White_Space})"},
    {'S', R"(\P{White_Space})", R"(\P{White_Space})"},
    {'w', "[" WORD_OUTSIDE "]", WORD},
    {'W', "[^" WORD_OUTSIDE "]", nullptr},
    {'h', "[0-9A-Fa-f]", "0-9A-Fa-f"},
    {'H', "[^0-9A-Fa-f]", nullptr},
    {'d', R"([\p{Nd}])", R"(\p{Nd})"},
    {'b',
     "(?:(?<=[" WORD_OUTSIDE "])(?![" WORD_OUTSIDE "])|(?<![" WORD_OUTSIDE "])(?=[" WORD_OUTSIDE
     "]))",
     R"(\b)"},
    {'B',
     "(?:(?<=[" WORD_OUTSIDE "])(?=[" WORD_OUTSIDE "])|(?<![" WORD_OUTSIDE "])(?![" WORD_OUTSIDE
     "]))",
     nullptr},
};
#undef WORD_OUTSIDE
#undef WORD

/// The ranges that belong to property `name` ("L", "Lu", "Han") and that PCRE2 lacks.
std::string young_ranges(std::string_view name) {
  std::string out;
  for (const auto& one : young_properties)
    if (name == one.name ||
        (name.size() == 1 && std::string_view{one.name}.size() == 2 && one.name[0] == name[0]))
      out += one.ranges;
  return out;
}

/// \p{name} or \P{name} at the start of `rest` with PCRE2's gaps filled; empty for other escapes.
/// `size` becomes what it is long. A negation inside a class cannot be filled and stays.
std::string property(std::string_view rest, bool in_class, size_t& size) {
  const auto close = rest.find('}');
  if (!(rest.starts_with("\\p{") || rest.starts_with("\\P{")) || close == std::string_view::npos)
    return {};
  size = close + 1;
  const auto whole = std::string{rest.substr(0, size)};
  const auto more = young_ranges(rest.substr(3, close - 3));
  const bool negated = rest[1] == 'P';
  if (more.empty() || (negated && in_class))
    return whole;
  const auto filled = "\\p" + whole.substr(2) + more;
  return in_class ? filled : (negated ? "[^" : "[") + filled + "]";
}

/// The same for every \p{name} of `meaning`, all of which stand inside a class.
std::string filled(std::string_view meaning) {
  std::string out;
  while (!meaning.empty()) {
    size_t size = 1;
    const auto one = property(meaning, true, size);
    out += one.empty() ? std::string{meaning.front()} : one;
    meaning.remove_prefix(size);
  }
  return out;
}

const escape* find_escape(char letter) {
  for (const auto& one : escapes)
    if (one.letter == letter)
      return &one;
  return nullptr;
}

caf::error no_counterpart(std::string_view what, std::string_view pattern,
                          const std::string& origin) {
  return caf::make_error(
      tokenizer_errc::unsupported,
      origin + ": " + std::string{what} + " inside the brackets of the pattern '" +
          std::string{pattern.substr(0, 200)} + "' is not supported; write the class without it");
}

} // namespace

caf::expected<std::string> to_pcre2_syntax(std::string_view pattern, const std::string& origin) {
  std::string out;
  out.reserve(pattern.size() * 2);
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const auto rest = pattern.substr(i);
    if (rest.front() == '\\' && rest.size() > 1) {
      size_t size = 2;
      if (const auto filled = property(rest, in_class, size); !filled.empty()) {
        out += filled;
        i += size - 1;
        continue;
      }
      ++i;
      const auto* known = find_escape(rest[1]);
      const char* meaning = !known ? nullptr : in_class ? known->inside : known->outside;
      if (known && !meaning)
        return no_counterpart(rest.substr(0, 2), pattern, origin);
      out += meaning ? filled(meaning) : std::string{rest.substr(0, 2)};
    } else if (!in_class && rest.front() == '[') {
      in_class = true;
      const size_t opening = rest.starts_with("[^]")  ? 3
                             : rest.starts_with("[^") ? 2
                             : rest.starts_with("[]") ? 2
                                                      : 1; // a bracket that comes first is text
      out += rest.substr(0, opening);
      i += opening - 1;
    } else if (in_class && rest.starts_with("[:")) {
      const auto size = rest.find(":]");
      if (size == std::string_view::npos)
        return no_counterpart("an open [:", pattern, origin);
      out += rest.substr(0, size + 2);
      i += size + 1;
    } else if (in_class && (rest.front() == '[' || rest.starts_with("&&"))) {
      return no_counterpart(rest.front() == '[' ? "a nested class" : "&&", pattern, origin);
    } else {
      in_class = in_class && rest.front() != ']';
      out += rest.front();
    }
  }
  return out;
}

} // namespace troupe::engine
