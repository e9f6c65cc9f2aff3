// str.format and format specifications.
#include <algorithm>
#include <cmath>

#include "engine/chat_template/formatting.hpp"
#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

/// "[[fill]align][sign][#][0][width][,][.precision][type]"
struct format_spec {
  std::string fill = " ";
  char align = 0;
  char sign = '-';
  bool alternate = false;
  char grouping = 0;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

format_spec parse_spec(std::string_view text) {
  format_spec out;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  size_t at = 0, first = 0;
  if (!text.empty())
    next_point(text, first);
  if (first < text.size() && is_align(text[first])) {
    out.fill = std::string(text.substr(0, first));
    out.align = text[first];
    at = first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    out.align = text[0];
    at = 1;
  }
  const auto next_is = [&](std::string_view any) {
    return at < text.size() && any.find(text[at]) != any.npos;
  };
  const auto number = [&] {
    int64_t x = 0;
    for (; next_is("0123456789"); ++at)
      x = std::min<int64_t>(x * 10 + (text[at] - '0'), format_width_max + 1);
    if (x > format_width_max)
      fail_limit("formatting: the width is too large");
    return x;
  };
  if (next_is("+- "))
    out.sign = text[at++];
  if (next_is("#"))
    out.alternate = text[at++] == '#';
  if (next_is("0") && !out.align) {
    out.fill = "0";
    out.align = '=';
  }
  out.width = number();
  if (next_is(",_"))
    out.grouping = text[at++];
  if (next_is(".")) {
    ++at;
    if (!next_is("0123456789"))
      fail("Format specifier missing precision");
    out.precision = number();
  }
  if (at < text.size())
    out.type = text[at++];
  if (at != text.size())
    fail("Invalid format specifier " + quote(text));
  return out;
}

void group_digits(std::string& body, char separator, size_t every) {
  const size_t end = std::min(body.find_first_not_of("0123456789abcdefABCDEF"), body.size());
  for (size_t at = end; at > every; at -= every)
    body.insert(at - every, 1, separator);
}

std::string integer_body(int64_t x, const format_spec& spec, char type, std::string& prefix) {
  if (spec.precision >= 0)
    fail("Precision not allowed in integer format specifier");
  if (type == 'c') {
    std::string out;
    append_point(out, static_cast<uint32_t>(x) % 0x110000);
    return out;
  }
  const int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
  if (spec.alternate && base != 10)
    prefix = std::string("0") + type;
  return digits_of(magnitude(x), base, type == 'X');
}

std::string real_body(double size, const format_spec& spec, char type) {
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  if (type == 0 && spec.precision < 0)
    return real_text(size);
  if (type == '%')
    return format_real(size * 100, 'f', precision, false) + "%";
  if (type != 0 && std::string_view("eEfFgGn").find(type) == std::string_view::npos)
    fail(std::string("Unknown format code '") + type + "' for object of type 'float'");
  std::string body =
      format_real(size, type == 0 || type == 'n' ? 'g' : type, precision, spec.alternate);
  if (type == 0 && body.find_first_of(".e") == body.npos && std::isfinite(size))
    body += ".0";
  return body;
}

std::string format_number(const value& x, const format_spec& spec) {
  const char type = spec.type ? spec.type : x.is_int() ? 'd' : 0;
  const bool whole = x.is_int() && std::string_view("bcdoxXn").find(type) != std::string_view::npos;
  std::string prefix;
  std::string body = whole ? integer_body(x.as_int(), spec, type, prefix)
                           : real_body(std::fabs(x.as_real()), spec, type);
  if (spec.grouping)
    group_digits(body, spec.grouping,
                 std::string_view("boxX").find(type) != std::string_view::npos ? 4 : 3);
  const bool negative = whole ? x.as_int() < 0 : std::signbit(x.as_real());
  const std::string sign = (negative           ? "-"
                            : spec.sign == '-' ? ""
                                               : std::string(1, spec.sign)) +
                           prefix;
  if (spec.align != '=')
    return fill_up(sign + body, spec.width, spec.fill, spec.align ? spec.align : '>');
  const auto size = static_cast<int64_t>(sign.size() + count_points(body));
  return sign + fill_up("", spec.width - size, spec.fill, '>') + body;
}

} // namespace

std::string format_value(const value& x, std::string_view text) {
  if (text.empty())
    return to_text(x);
  if (x.is_number()) // a boolean formats as the integer it is
    return format_number(x.is_int() ? value::integer(x.as_int()) : x, parse_spec(text));
  if (!x.is(kind::string))
    fail("unsupported format string passed to " + type_name(x) + ".__format__");
  format_spec spec = parse_spec(text);
  if (spec.type && spec.type != 's')
    fail(std::string("Unknown format code '") + spec.type + "' for object of type 'str'");
  if (spec.align == '=' && spec.fill != "0")
    fail("'=' alignment not allowed in string format specifier");
  if (spec.align == '=')
    spec.align = '<';
  std::string out = x.text();
  if (spec.precision >= 0)
    out.resize(offset_of(out, static_cast<size_t>(spec.precision)));
  return fill_up(out, spec.width, spec.fill, spec.align ? spec.align : '<');
}

namespace {

class brace_formatter {
public:
  brace_formatter(runtime& rt, const call_values& arguments) : rt_{rt}, arguments_{arguments} {}

  std::string run(std::string_view format, int depth) {
    if (depth > 2)
      fail("Max string recursion exceeded");
    std::string out;
    for (size_t at = 0; at < format.size();) {
      const char c = format[at];
      if ((c == '{' || c == '}') && at + 1 < format.size() && format[at + 1] == c) {
        out += c;
        at += 2;
      } else if (c == '}') {
        fail("Single '}' encountered in format string");
      } else if (c == '{') {
        field(out, format, ++at, depth);
      } else {
        out += c;
        ++at;
      }
      if (out.size() > rt_.allowed().output_bytes_max)
        fail_limit("formatting: the text becomes too long");
    }
    return out;
  }

private:
  /// One "{...}"; `at` is behind its opening brace and ends behind its closing one.
  void field(std::string& out, std::string_view format, size_t& at, int depth) {
    size_t open = 1, end = at;
    for (; end < format.size(); ++end) {
      open += format[end] == '{' ? 1 : 0;
      open -= format[end] == '}' ? 1 : 0;
      if (open == 0)
        break;
    }
    if (end >= format.size())
      fail(at >= format.size() ? "Single '{' encountered in format string"
                               : "expected '}' before end of string");
    std::string_view body = format.substr(at, end - at);
    at = end + 1;
    const size_t name_end = std::min(name_size(body), body.size());
    value x = look_up(body.substr(0, name_end));
    body.remove_prefix(name_end);
    if (body.starts_with('!')) {
      if (body.size() < 2 || (body.size() > 2 && body[2] != ':'))
        fail("expected ':' after conversion specifier");
      if (body[1] == 'r' || body[1] == 'a')
        x = value::string(to_repr(x));
      else if (body[1] == 's')
        x = value::string(to_text(x));
      else
        fail("Unknown conversion specifier");
      body.remove_prefix(2);
    }
    rt_.charge(x.weight() + 1);
    const std::string spec = run(body.empty() ? body : body.substr(1), depth + 1);
    out += format_value(x, spec);
  }

  /// The field name ends at "!" or ":", but not inside brackets.
  static size_t name_size(std::string_view body) {
    bool bracket = false;
    for (size_t i = 0; i < body.size(); ++i) {
      bracket = bracket ? body[i] != ']' : body[i] == '[';
      if (!bracket && (body[i] == '!' || body[i] == ':'))
        return i;
    }
    return body.size();
  }

  value first_value(std::string_view name) {
    if (name.find_first_not_of("0123456789") != name.npos) {
      for (const auto& [key, x] : arguments_.named)
        if (key == name)
          return x;
      fail("KeyError: " + quote(name));
    }
    size_t index = 0;
    if (name.empty()) {
      if (numbering_ > 0)
        fail("cannot switch from manual field specification to automatic field numbering");
      numbering_ = -1;
      index = next_++;
    } else {
      if (numbering_ < 0)
        fail("cannot switch from automatic field numbering to manual field specification");
      numbering_ = 1;
      for (char c : name)
        index = std::min<size_t>(index * 10 + static_cast<size_t>(c - '0'), 1 << 20);
    }
    if (index >= arguments_.positional.size())
      fail("Replacement index " + std::to_string(index) +
           " out of range for positional args tuple");
    return arguments_.positional[index];
  }

  value look_up(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    value x = first_value(path.substr(0, end));
    path.remove_prefix(end);
    while (!path.empty()) {
      if (path[0] == '.') {
        const size_t stop = std::min(path.find_first_of(".[", 1), path.size());
        x = rt_.attribute(x, value::string(std::string(path.substr(1, stop - 1))));
        path.remove_prefix(stop);
        continue;
      }
      const size_t close = path.find(']');
      if (path[0] != '[' || close == path.npos)
        fail("Missing ']' in format string");
      const auto key = path.substr(1, close - 1);
      if (!key.empty() && key.size() < 18 && key.find_first_not_of("0123456789") == key.npos)
        x = rt_.item(x, value::integer(std::stoll(std::string(key))));
      else
        x = rt_.item(x, value::string(std::string(key)));
      path.remove_prefix(close + 1);
    }
    return x;
  }

  runtime& rt_;
  const call_values& arguments_;
  size_t next_ = 0;
  int numbering_ = 0; ///< -1 automatic, 1 manual
};

} // namespace

value str_format(runtime& rt, const std::string& format, const call_values& arguments) {
  return rt.text(brace_formatter{rt, arguments}.run(format, 0));
}

} // namespace troupe::engine::jinja
