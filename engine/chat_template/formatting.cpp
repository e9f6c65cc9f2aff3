// printf-style and str.format formatting.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

/// Widths and precisions beyond this are a mistake or an attack.
constexpr int64_t width_max = 1 << 20;

std::string digits_of(uint64_t x, int base, bool capital) {
  const char* symbols = capital ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out += symbols[x % static_cast<uint64_t>(base)];
    x /= static_cast<uint64_t>(base);
  } while (x > 0);
  std::reverse(out.begin(), out.end());
  return out;
}

uint64_t magnitude(int64_t x) {
  return x < 0 ? 0 - static_cast<uint64_t>(x) : static_cast<uint64_t>(x);
}

std::string pad(std::string_view text, int64_t width, std::string_view fill, char how) {
  const auto size = static_cast<int64_t>(count_points(text));
  const int64_t missing = std::max<int64_t>(0, width - size);
  const int64_t left = how == '<' ? 0 : how == '^' ? missing / 2 : missing;
  std::string out;
  for (int64_t i = 0; i < left; ++i)
    out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i)
    out += fill;
  return out;
}

/// Zeros between the sign (and a prefix) and the digits.
std::string zero_pad(const std::string& sign, const std::string& body, int64_t width) {
  const auto size = static_cast<int64_t>(sign.size() + body.size());
  return sign + std::string(static_cast<size_t>(std::max<int64_t>(0, width - size)), '0') + body;
}

struct printf_spec {
  std::string flags;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
  bool has(char flag) const { return flags.find(flag) != flags.npos; }
};

int64_t whole_number(const value& x, char type) {
  if (x.is_int())
    return x.as_int();
  if (x.is(kind::undefined))
    fail_undefined(x);
  if (x.is(kind::real) && (type == 'd' || type == 'i' || type == 'u')) {
    const double number = x.as_real();
    if (!std::isfinite(number) || std::fabs(number) >= 9.2e18)
      fail("cannot convert float " + real_text(number) + " to integer");
    return static_cast<int64_t>(number);
  }
  fail(std::string("%") + type + " format: a number is required, not " + type_name(x));
}

std::string sign_of(bool negative, const printf_spec& spec) {
  return negative ? "-" : spec.has('+') ? "+" : spec.has(' ') ? " " : "";
}

std::string finish_number(const printf_spec& spec, const std::string& sign, const std::string& body) {
  if (spec.has('0') && !spec.has('-'))
    return zero_pad(sign, body, spec.width);
  return pad(sign + body, spec.width, " ", spec.has('-') ? '<' : '>');
}

std::string printf_integer(const printf_spec& spec, const value& x) {
  const int64_t number = whole_number(x, spec.type);
  const char type = static_cast<char>(spec.type | 0x20);
  const int base = type == 'x' ? 16 : type == 'o' ? 8 : 10;
  std::string body = digits_of(magnitude(number), base, spec.type == 'X');
  if (static_cast<int64_t>(body.size()) < spec.precision)
    body.insert(0, static_cast<size_t>(spec.precision) - body.size(), '0');
  if (spec.has('#') && base != 10)
    body.insert(0, base == 8 ? "0o" : spec.type == 'X' ? "0X" : "0x");
  return finish_number(spec, sign_of(number < 0, spec), body);
}

std::string printf_one(const printf_spec& spec, const value& x) {
  switch (spec.type) {
  case 's':
  case 'r':
  case 'a': {
    std::string text = spec.type == 's' ? to_text(x) : to_repr(x);
    if (spec.precision >= 0)
      text.resize(offset_of(text, static_cast<size_t>(spec.precision)));
    return pad(text, spec.width, " ", spec.has('-') ? '<' : '>');
  }
  case 'c': {
    std::string text;
    if (x.is_int() && x.as_int() >= 0 && x.as_int() < 0x110000)
      append_point(text, static_cast<uint32_t>(x.as_int()));
    else if (x.is(kind::string) && x.as<string_object>().length == 1)
      text = x.text();
    else
      fail("%c requires int or char");
    return pad(text, spec.width, " ", spec.has('-') ? '<' : '>');
  }
  case 'd':
  case 'i':
  case 'u':
  case 'x':
  case 'X':
  case 'o':
    return printf_integer(spec, x);
  case 'e':
  case 'E':
  case 'f':
  case 'F':
  case 'g':
  case 'G': {
    if (!x.is_number())
      fail("must be real number, not " + type_name(x));
    const double number = x.as_real();
    const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
    return finish_number(spec, sign_of(std::signbit(number), spec),
                         format_real(std::fabs(number), spec.type, precision, spec.has('#')));
  }
  default:
    fail(std::string("unsupported format character '") + spec.type + "'");
  }
}

class printf_formatter {
public:
  printf_formatter(runtime& rt, std::string_view format, const value& arguments)
      : rt_{rt}, format_{format}, arguments_{arguments}, tuple_{arguments.is(flavor::tuple)} {}

  std::string run() {
    std::string out;
    while (at_ < format_.size()) {
      const size_t mark = format_.find('%', at_);
      out += format_.substr(at_, mark == format_.npos ? mark : mark - at_);
      if (mark == format_.npos)
        break;
      at_ = mark + 1;
      one(out);
      if (out.size() > rt_.allowed().output_bytes_max)
        fail_limit("formatting: the text becomes too long");
    }
    const bool left_over = tuple_ ? used_ < arguments_.items().size()
                                  : used_ == 0 && !arguments_.is(kind::dict) &&
                                        !arguments_.is(flavor::list) && !arguments_.is(flavor::range) &&
                                        !arguments_.is(kind::undefined); // anything with an index
    if (left_over && !mapped_)
      fail("not all arguments converted during string formatting");
    return out;
  }

private:
  char peek() const {
    if (at_ >= format_.size())
      fail("incomplete format");
    return format_[at_];
  }

  value next_argument() {
    if (tuple_ ? used_ >= arguments_.items().size() : used_ > 0)
      fail("not enough arguments for format string");
    ++used_;
    return tuple_ ? arguments_.items()[used_ - 1] : arguments_;
  }

  int64_t number() {
    if (peek() == '*') {
      ++at_;
      return to_integer(next_argument(), "* wants int");
    }
    int64_t out = 0;
    for (; at_ < format_.size() && format_[at_] >= '0' && format_[at_] <= '9'; ++at_)
      out = std::min<int64_t>(out * 10 + (format_[at_] - '0'), width_max + 1);
    return out;
  }

  value mapped_argument() {
    if (!arguments_.is(kind::dict))
      fail("format requires a mapping");
    size_t depth = 1;
    const size_t from = ++at_;
    for (; depth > 0; ++at_)
      depth = peek() == '(' ? depth + 1 : peek() == ')' ? depth - 1 : depth;
    const auto name = format_.substr(from, at_ - 1 - from);
    mapped_ = true;
    const value* found = arguments_.as<dict_object>().find(name);
    if (!found)
      fail("KeyError: " + quote(name));
    return *found;
  }

  void one(std::string& out) {
    value argument;
    if (peek() == '(')
      argument = mapped_argument();
    printf_spec spec;
    while (std::string_view("#0- +").find(peek()) != std::string_view::npos)
      spec.flags += format_[at_++];
    spec.width = number();
    if (spec.width < 0) {
      spec.flags += '-';
      spec.width = -std::max(spec.width, -width_max - 1);
    }
    if (peek() == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(0, number());
    }
    while (std::string_view("hlL").find(peek()) != std::string_view::npos)
      ++at_;
    if (spec.width > width_max || spec.precision > width_max)
      fail_limit("formatting: the width is too large");
    spec.type = peek();
    ++at_;
    if (spec.type == '%') {
      out += '%';
      return;
    }
    if (argument.is_missing())
      argument = next_argument();
    rt_.charge(argument.weight() + static_cast<uint64_t>(spec.width));
    out += printf_one(spec, argument);
  }

  runtime& rt_;
  std::string_view format_;
  const value& arguments_;
  bool tuple_;
  bool mapped_ = false;
  size_t at_ = 0;
  size_t used_ = 0;
};

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
      x = std::min<int64_t>(x * 10 + (text[at] - '0'), width_max + 1);
    if (x > width_max)
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

std::string format_number(const value& x, format_spec spec) {
  const char type = spec.type ? spec.type : x.is_int() ? 'd' : 0;
  std::string body, prefix;
  bool negative = false;
  if (x.is_int() && std::string_view("bcdoxXn").find(type) != std::string_view::npos) {
    if (spec.precision >= 0)
      fail("Precision not allowed in integer format specifier");
    negative = x.as_int() < 0;
    if (type == 'c')
      append_point(body, static_cast<uint32_t>(x.as_int()) % 0x110000);
    const int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    if (type != 'c')
      body = digits_of(magnitude(x.as_int()), base, type == 'X');
    if (spec.alternate && base != 10)
      prefix = std::string("0") + type;
  } else {
    const double number = x.as_real();
    negative = std::signbit(number);
    const double size = std::fabs(number);
    if (type == 0 && spec.precision < 0) {
      body = real_text(size);
    } else if (type == '%') {
      body = format_real(size * 100, 'f', spec.precision < 0 ? 6 : static_cast<int>(spec.precision), false) + "%";
    } else if (type == 0 || std::string_view("eEfFgGn").find(type) != std::string_view::npos) {
      const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
      body = format_real(size, type == 0 || type == 'n' ? 'g' : type, precision, spec.alternate);
      if (type == 0 && body.find_first_of(".e") == body.npos && std::isfinite(size))
        body += ".0";
    } else {
      fail(std::string("Unknown format code '") + type + "' for object of type '" + type_name(x) + "'");
    }
  }
  if (spec.grouping)
    group_digits(body, spec.grouping, type == 'b' || type == 'o' || type == 'x' || type == 'X' ? 4 : 3);
  const std::string sign = (negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign)) + prefix;
  if (spec.align == '=') {
    const auto size = static_cast<int64_t>(sign.size() + count_points(body));
    return sign + pad("", spec.width - size, spec.fill, '>') + body;
  }
  return pad(sign + body, spec.width, spec.fill, spec.align ? spec.align : '>');
}

} // namespace

std::string format_real(double x, char type, int precision, bool alternate) {
  const bool capital = type == 'F' || type == 'E' || type == 'G';
  if (std::isnan(x))
    return capital ? "NAN" : "nan";
  if (std::isinf(x))
    return x < 0 ? (capital ? "-INF" : "-inf") : capital ? "INF" : "inf";
  const char format[] = {'%', '#', '.', '*', type, 0};
  const char plain[] = {'%', '.', '*', type, 0};
  const char* chosen = alternate ? format : plain;
  // The format is one of ours: the type was checked by the callers.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const int size = std::snprintf(nullptr, 0, chosen, precision, x);
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), chosen, precision, x);
#pragma GCC diagnostic pop
  out.pop_back();
  return out;
}

std::string format_value(const value& x, std::string_view text) {
  if (text.empty())
    return to_text(x);
  if (x.is_number() && !(x.is(kind::boolean) && text.find_first_not_of("0123456789<>^ ") == text.npos))
    return format_number(x, parse_spec(text));
  if (x.is(kind::boolean))
    return format_number(value::integer(x.as_int()), parse_spec(text));
  if (!x.is(kind::string))
    fail("unsupported format string passed to " + type_name(x) + ".__format__");
  format_spec spec = parse_spec(text);
  if (spec.type && spec.type != 's')
    fail(std::string("Unknown format code '") + spec.type + "' for object of type 'str'");
  if (spec.align == '=')
    spec.fill == "0" ? void(spec.align = '<') : fail("'=' alignment not allowed in string format specifier");
  std::string out = x.text();
  if (spec.precision >= 0)
    out.resize(offset_of(out, static_cast<size_t>(spec.precision)));
  return pad(out, spec.width, spec.fill, spec.align ? spec.align : '<');
}

value printf_format(runtime& rt, const std::string& format, const value& arguments, bool markup) {
  return rt.text(printf_formatter{rt, format, arguments}.run(), markup);
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
      fail("Replacement index " + std::to_string(index) + " out of range for positional args tuple");
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
