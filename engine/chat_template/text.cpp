// str() and repr() of values, as Python prints them.
#include <charconv>
#include <cmath>

#include "engine/chat_template/unicode.hpp"
#include "engine/chat_template/value.hpp"

namespace troupe::engine::jinja {

namespace {

void append_hex(std::string& out, uint32_t point) {
  static constexpr char digits[] = "0123456789abcdef";
  const int width = point < 0x100 ? 2 : point < 0x10000 ? 4 : 8;
  out += width == 2 ? "\\x" : width == 4 ? "\\u" : "\\U";
  for (int i = width - 1; i >= 0; --i)
    out += digits[(point >> (4 * i)) & 0xf];
}

void append_repr(std::string& out, const value& x, bool inside_space);

void append_items(std::string& out, const std::vector<value>& items, bool inside_space) {
  bool first = true;
  for (const auto& item : items) {
    if (!first)
      out += ", ";
    first = false;
    append_repr(out, item, inside_space);
  }
}

void append_dict(std::string& out, const dict_object& dict, bool inside_space) {
  out += '{';
  bool first = true;
  for (const auto& [key, item] : dict.entries) {
    if (!first)
      out += ", ";
    first = false;
    append_repr(out, key, inside_space);
    out += ": ";
    append_repr(out, item, inside_space);
  }
  out += '}';
}

void append_range(std::string& out, const sequence_object& x) {
  out += "range(" + std::to_string(x.start) + ", " + std::to_string(x.stop);
  if (x.step != 1)
    out += ", " + std::to_string(x.step);
  out += ')';
}

void append_sequence(std::string& out, const sequence_object& x, bool inside_space) {
  switch (x.type) {
  case flavor::list:
    out += '[';
    append_items(out, x.items, inside_space);
    out += ']';
    return;
  case flavor::tuple:
  case flavor::group:
    out += '(';
    append_items(out, x.items, inside_space);
    out += x.items.size() == 1 ? ",)" : ")";
    return;
  case flavor::range:
    return append_range(out, x);
  case flavor::keys:
    out += "dict_keys([";
    break;
  case flavor::values:
    out += "dict_values([";
    break;
  case flavor::items:
    out += "dict_items([";
    break;
  }
  append_items(out, x.items, inside_space);
  out += "])";
}

void append_space(std::string& out, const space_object& x, bool inside_space) {
  out += "<Namespace ";
  if (inside_space) // a namespace may hold itself
    out += "{...}";
  else
    append_dict(out, x.attributes, true);
  out += '>';
}

void append_repr(std::string& out, const value& x, bool inside_space) {
  switch (x.type()) {
  case kind::string:
    if (x.as<string_object>().markup)
      out += "Markup(" + quote(x.text()) + ")";
    else
      out += quote(x.text());
    return;
  case kind::undefined:
  case kind::missing:
    out += "Undefined";
    return;
  case kind::sequence:
    return append_sequence(out, x.as<sequence_object>(), inside_space);
  case kind::dict:
    return append_dict(out, x.as<dict_object>(), inside_space);
  case kind::space:
    return append_space(out, x.as<space_object>(), inside_space);
  case kind::iterator:
    out += "<generator object>";
    return;
  case kind::callable:
    out += "<" + x.as<callable_object>().name + ">";
    return;
  default:
    out += to_text(x);
  }
}

} // namespace

std::string quote(std::string_view text) {
  const char mark = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, mark);
  for (size_t at = 0; at < text.size();) {
    const uint32_t point = next_point(text, at);
    if (point == static_cast<uint32_t>(mark) || point == '\\')
      (out += '\\') += static_cast<char>(point);
    else if (point == '\n')
      out += "\\n";
    else if (point == '\r')
      out += "\\r";
    else if (point == '\t')
      out += "\\t";
    else if (is_printable(point))
      append_point(out, point);
    else
      append_hex(out, point);
  }
  return out += mark;
}

std::string real_text(double x) {
  if (std::isnan(x))
    return "nan";
  if (std::isinf(x))
    return x < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));
  const size_t e = shortest.find('e');
  int exponent = 0;
  const size_t sign = shortest[e + 1] == '+' ? 2 : 1; // from_chars knows no plus
  std::from_chars(shortest.data() + e + sign, end, exponent);
  if (exponent < -4 || exponent >= 16)
    return std::string(shortest); // to_chars writes at least two exponent digits, as Python does
  std::string digits;
  for (char c : shortest.substr(0, e))
    if (c >= '0' && c <= '9')
      digits += c;
  std::string out = x < 0 || (x == 0 && std::signbit(x)) ? "-" : "";
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole)
    return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string to_text(const value& x) {
  switch (x.type()) {
  case kind::missing:
  case kind::undefined:
    return {};
  case kind::none:
    return "None";
  case kind::boolean:
    return x.as_bool() ? "True" : "False";
  case kind::integer:
    return std::to_string(x.as_int());
  case kind::real:
    return real_text(x.as_real());
  case kind::string:
    return x.text();
  default: {
    std::string out;
    append_repr(out, x, false);
    return out;
  }
  }
}

std::string to_repr(const value& x) {
  std::string out;
  append_repr(out, x, false);
  return out;
}

} // namespace troupe::engine::jinja
