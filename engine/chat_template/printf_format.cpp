// printf-style formatting: format % arguments.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/chat_template/formatting.hpp"
#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

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

std::string fill_up(std::string_view text, int64_t width, std::string_view fill, char how) {
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

namespace {

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

std::string finish_number(const printf_spec& spec, const std::string& sign,
                          const std::string& body) {
  if (spec.has('0') && !spec.has('-'))
    return zero_pad(sign, body, spec.width);
  return fill_up(sign + body, spec.width, " ", spec.has('-') ? '<' : '>');
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
    return fill_up(text, spec.width, " ", spec.has('-') ? '<' : '>');
  }
  case 'c': {
    std::string text;
    if (x.is_int() && x.as_int() >= 0 && x.as_int() < 0x110000)
      append_point(text, static_cast<uint32_t>(x.as_int()));
    else if (x.is(kind::string) && x.as<string_object>().length == 1)
      text = x.text();
    else
      fail("%c requires int or char");
    return fill_up(text, spec.width, " ", spec.has('-') ? '<' : '>');
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
                                        !arguments_.is(flavor::list) &&
                                        !arguments_.is(flavor::range) &&
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
      out = std::min<int64_t>(out * 10 + (format_[at_] - '0'), format_width_max + 1);
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
      spec.width = -std::max(spec.width, -format_width_max - 1);
    }
    if (peek() == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(0, number());
    }
    while (std::string_view("hlL").find(peek()) != std::string_view::npos)
      ++at_;
    if (spec.width > format_width_max || spec.precision > format_width_max)
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

} // namespace

value printf_format(runtime& rt, const std::string& format, const value& arguments, bool markup) {
  return rt.text(printf_formatter{rt, format, arguments}.run(), markup);
}

} // namespace troupe::engine::jinja
