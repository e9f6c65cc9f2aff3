// Methods of str about case and kinds of characters.
#include <algorithm>

#include "engine/chat_template/string_methods.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

template <std::string (*Map)(std::string_view)>
value mapped(runtime& rt, const value& self, call_values& arguments) {
  bind_arguments(arguments, "str method", {});
  return rt.text(Map(self.text()));
}

/// True for a text that is not empty and all of whose code points pass.
template <bool (*Test)(uint32_t)>
value all_are(runtime& rt, const value& self, call_values& arguments) {
  bind_arguments(arguments, "str method", {});
  const auto& text = self.text();
  rt.charge(text.size() / 8);
  for (size_t at = 0; at < text.size();)
    if (!Test(next_point(text, at)))
      return value::boolean(false);
  return value::boolean(!text.empty());
}

bool is_alnum(uint32_t x) { return is_alpha(x) || is_decimal(x) || is_digit(x) || is_numeric(x); }

/// At least one letter with case, and none of the other case.
template <bool (*Wanted)(uint32_t), bool (*Other)(uint32_t)>
value has_case(runtime& rt, const value& self, call_values& arguments) {
  bind_arguments(arguments, "str method", {});
  const auto& text = self.text();
  rt.charge(text.size() / 8);
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const uint32_t point = next_point(text, at);
    if (Other(point) || is_title(point))
      return value::boolean(false);
    any = any || Wanted(point);
  }
  return value::boolean(any);
}

value is_titled(runtime& rt, const value& self, call_values& arguments) {
  bind_arguments(arguments, "istitle", {});
  const auto& text = self.text();
  rt.charge(text.size() / 8);
  bool inside = false, any = false;
  for (size_t at = 0; at < text.size();) {
    const uint32_t point = next_point(text, at);
    if (is_upper(point) || is_title(point)) {
      if (inside)
        return value::boolean(false);
      inside = any = true;
    } else if (is_lower(point)) {
      if (!inside)
        return value::boolean(false);
      any = true;
    } else {
      inside = false;
    }
  }
  return value::boolean(any);
}

value is_ascii(runtime&, const value& self, call_values& arguments) {
  bind_arguments(arguments, "isascii", {});
  return value::boolean(self.as<string_object>().ascii());
}

value is_identifier(runtime&, const value& self, call_values& arguments) {
  bind_arguments(arguments, "isidentifier", {});
  const auto& text = self.text();
  for (size_t at = 0; at < text.size();) {
    const bool first = at == 0;
    const uint32_t point = next_point(text, at);
    if (!is_word(point) || (first && point != '_' && !is_alpha(point)))
      return value::boolean(false);
  }
  return value::boolean(!text.empty());
}

value is_printable_text(runtime& rt, const value& self, call_values& arguments) {
  return value::boolean(self.text().empty() ||
                        all_are<is_printable>(rt, self, arguments).as_bool());
}

} // namespace

std::vector<named_method> case_methods() {
  return {{"upper", mapped<upper>},
          {"lower", mapped<lower>},
          {"title", mapped<title>},
          {"capitalize", mapped<capitalize>},
          {"swapcase", mapped<swapcase>},
          {"casefold", mapped<casefold>},
          {"isalnum", all_are<is_alnum>},
          {"isalpha", all_are<is_alpha>},
          {"isdecimal", all_are<is_decimal>},
          {"isdigit", all_are<is_digit>},
          {"isnumeric", all_are<is_numeric>},
          {"isspace", all_are<is_space>},
          {"isupper", has_case<is_upper, is_lower>},
          {"islower", has_case<is_lower, is_upper>},
          {"istitle", is_titled},
          {"isascii", is_ascii},
          {"isidentifier", is_identifier},
          {"isprintable", is_printable_text}};
}

} // namespace troupe::engine::jinja
