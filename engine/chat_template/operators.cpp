#include "engine/chat_template/operators.hpp"

#include <algorithm>
#include <cmath>

#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

const char* symbol(expr_kind op) {
  switch (op) {
  case expr_kind::add:
    return "+";
  case expr_kind::sub:
    return "-";
  case expr_kind::mul:
    return "*";
  case expr_kind::div:
    return "/";
  case expr_kind::floordiv:
    return "//";
  case expr_kind::mod:
    return "%";
  default:
    return "** or pow()";
  }
}

[[noreturn]] void unsupported(expr_kind op, const value& a, const value& b) {
  fail(std::string("unsupported operand type(s) for ") + symbol(op) + ": '" + type_name(a) +
       "' and '" + type_name(b) + "'");
}

[[noreturn]] void overflow() { fail("an integer does not fit in 64 bits"); }

int64_t floor_div(int64_t a, int64_t b) {
  if (a == INT64_MIN && b == -1)
    overflow();
  const int64_t q = a / b;
  return q * b != a && (a < 0) != (b < 0) ? q - 1 : q;
}

int64_t floor_mod(int64_t a, int64_t b) {
  if (b == -1)
    return 0;
  const int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

double real_mod(double a, double b) {
  double r = std::fmod(a, b);
  if (r != 0 && (r < 0) != (b < 0))
    r += b;
  return r == 0 ? std::copysign(0.0, b) : r;
}

double real_floor_div(double a, double b) {
  const double q = (a - real_mod(a, b)) / b;
  if (q == 0)
    return std::copysign(0.0, a / b);
  const double whole = std::floor(q);
  return q - whole > 0.5 ? whole + 1 : whole;
}

value integer_pow(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0)
      fail("0.0 cannot be raised to a negative power");
    return value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  bool too_large = false; // squaring once more than needed may overflow without harm
  while (exponent > 0) {
    if (exponent & 1)
      if (too_large || __builtin_mul_overflow(result, base, &result))
        overflow();
    exponent >>= 1;
    too_large = __builtin_mul_overflow(base, base, &base) || too_large;
  }
  return value::integer(result);
}

value integer_arithmetic(expr_kind op, int64_t a, int64_t b) {
  int64_t out = 0;
  switch (op) {
  case expr_kind::add:
    return __builtin_add_overflow(a, b, &out) ? (overflow(), value{}) : value::integer(out);
  case expr_kind::sub:
    return __builtin_sub_overflow(a, b, &out) ? (overflow(), value{}) : value::integer(out);
  case expr_kind::mul:
    return __builtin_mul_overflow(a, b, &out) ? (overflow(), value{}) : value::integer(out);
  case expr_kind::pow:
    return integer_pow(a, b);
  default:
    break;
  }
  if (b == 0)
    fail(op == expr_kind::div ? "division by zero" : "integer division or modulo by zero");
  if (op == expr_kind::div)
    return value::real(static_cast<double>(a) / static_cast<double>(b));
  return value::integer(op == expr_kind::floordiv ? floor_div(a, b) : floor_mod(a, b));
}

value real_arithmetic(expr_kind op, double a, double b) {
  switch (op) {
  case expr_kind::add:
    return value::real(a + b);
  case expr_kind::sub:
    return value::real(a - b);
  case expr_kind::mul:
    return value::real(a * b);
  case expr_kind::pow: {
    if (a == 0 && b < 0)
      fail("0.0 cannot be raised to a negative power");
    const double out = std::pow(a, b);
    if (std::isnan(out) && !std::isnan(a) && !std::isnan(b))
      fail("complex numbers are not supported");
    if (std::isinf(out) && std::isfinite(a) && std::isfinite(b))
      fail("Numerical result out of range");
    return value::real(out);
  }
  default:
    break;
  }
  if (b == 0)
    fail("float division by zero");
  if (op == expr_kind::div)
    return value::real(a / b);
  return value::real(op == expr_kind::floordiv ? real_floor_div(a, b) : real_mod(a, b));
}

value repeat(runtime& rt, const value& what, const value& times) {
  const auto count = static_cast<uint64_t>(std::max<int64_t>(0, times.as_int()));
  if (what.is(kind::string)) {
    const auto& unit = what.text();
    if (!unit.empty() && count > rt.allowed().output_bytes_max / unit.size())
      fail_limit("a string is longer than " + std::to_string(rt.allowed().output_bytes_max) +
                 " bytes");
    std::string out;
    out.reserve(unit.size() * count);
    for (uint64_t i = 0; i < count && !unit.empty(); ++i)
      out += unit;
    return rt.text(std::move(out), what.as<string_object>().markup);
  }
  const auto& unit = what.items();
  if (!unit.empty())
    rt.charge(count > rt.allowed().steps_max ? count : count * unit.size());
  std::vector<value> out;
  for (uint64_t i = 0; i < count && !unit.empty(); ++i)
    out.insert(out.end(), unit.begin(), unit.end());
  return value::sequence(what.is(flavor::list) ? flavor::list : flavor::tuple, std::move(out));
}

value join_strings(runtime& rt, const value& a, const value& b) {
  const bool left = a.as<string_object>().markup, right = b.as<string_object>().markup;
  if (left == right)
    return rt.text(a.text() + b.text(), left);
  return rt.text(left ? a.text() + escape_html(b.text()) : escape_html(a.text()) + b.text(), true);
}

bool is_tuple(const value& x) { return x.is(flavor::tuple) || x.is(flavor::group); }
bool repeatable(const value& x) { return x.is(kind::string) || x.is(flavor::list) || is_tuple(x); }

value join_sequences(runtime& rt, const value& a, const value& b) {
  std::vector<value> out = a.items();
  out.insert(out.end(), b.items().begin(), b.items().end());
  rt.charge(out.size() * 2);
  return value::sequence(a.is(flavor::list) ? flavor::list : flavor::tuple, std::move(out));
}

} // namespace

value arithmetic(runtime& rt, expr_kind op, const value& a, const value& b) {
  if (a.is_int() && b.is_int())
    return integer_arithmetic(op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number())
    return real_arithmetic(op, a.as_real(), b.as_real());
  if (op == expr_kind::mod && a.is(kind::string))
    return printf_format(rt, a.text(), b, a.as<string_object>().markup);
  if (a.is(kind::undefined))
    fail_undefined(a);
  if (b.is(kind::undefined))
    fail_undefined(b);
  if (op == expr_kind::add) {
    if (a.is(kind::string) && b.is(kind::string))
      return join_strings(rt, a, b);
    if ((a.is(flavor::list) && b.is(flavor::list)) || (is_tuple(a) && is_tuple(b)))
      return join_sequences(rt, a, b);
    if (a.is(kind::string))
      fail("can only concatenate str (not \"" + type_name(b) + "\") to str");
  }
  if (op == expr_kind::mul && repeatable(a) && b.is_int())
    return repeat(rt, a, b);
  if (op == expr_kind::mul && a.is_int() && repeatable(b))
    return repeat(rt, b, a);
  unsupported(op, a, b);
}

value negate(const value& x) {
  if (x.is_int())
    return integer_arithmetic(expr_kind::sub, 0, x.as_int());
  if (x.is(kind::real))
    return value::real(-x.as_real());
  if (x.is(kind::undefined))
    fail_undefined(x);
  fail("bad operand type for unary -: '" + type_name(x) + "'");
}

value plus(const value& x) {
  if (x.is_int())
    return value::integer(x.as_int());
  if (x.is(kind::real))
    return x;
  if (x.is(kind::undefined))
    fail_undefined(x);
  fail("bad operand type for unary +: '" + type_name(x) + "'");
}

namespace {

[[noreturn]] void no_order(const value& a, const value& b, const char* op) {
  if (a.is(kind::undefined))
    fail_undefined(a);
  if (b.is(kind::undefined))
    fail_undefined(b);
  fail(std::string("'") + op + "' not supported between instances of '" + type_name(a) + "' and '" +
       type_name(b) + "'");
}

bool both_ordered_sequences(const value& a, const value& b) {
  return (a.is(flavor::list) && b.is(flavor::list)) || (is_tuple(a) && is_tuple(b));
}

template <class Order>
bool ordered(const value& a, const value& b, const char* op, Order order) {
  if (a.is_int() && b.is_int())
    return order(a.as_int(), b.as_int());
  if (a.is_number() && b.is_number())
    return order(a.as_real(), b.as_real());
  if (a.is(kind::string) && b.is(kind::string))
    return order(a.text().compare(b.text()), 0); // bytes of UTF-8 sort as code points do
  if (!both_ordered_sequences(a, b))
    no_order(a, b, op);
  const auto& left = a.items();
  const auto& right = b.items();
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i)
    if (!equal(left[i], right[i]))
      return ordered(left[i], right[i], op, order);
  return order(left.size(), right.size());
}

} // namespace

bool less(const value& a, const value& b, const char* op) {
  return ordered(a, b, op, [](const auto& x, const auto& y) { return x < y; });
}

bool less_equal(const value& a, const value& b, const char* op) {
  return ordered(a, b, op, [](const auto& x, const auto& y) { return x <= y; });
}

bool contains(runtime& rt, const value& haystack, const value& needle) {
  switch (haystack.type()) {
  case kind::string:
    if (!needle.is(kind::string))
      fail("'in <string>' requires string as left operand, not " + type_name(needle));
    rt.charge(haystack.text().size() / 16);
    return haystack.text().find(needle.text()) != std::string::npos;
  case kind::dict:
    return haystack.as<dict_object>().find(needle) != nullptr;
  case kind::undefined:
    return false;
  case kind::sequence:
    if (haystack.is(flavor::keys))
      hash_of(needle); // refuses what cannot be a key
    break;
  default:
    break;
  }
  if (!is_iterable(haystack))
    fail("argument of type '" + type_name(haystack) + "' is not iterable");
  cursor items{rt, haystack};
  while (auto item = items.next())
    if (equal(*item, needle))
      return true;
  return false;
}

value compare(runtime& rt, compare_op op, const value& a, const value& b) {
  rt.charge(std::min(a.weight(), b.weight()));
  switch (op) {
  case compare_op::eq:
    return value::boolean(equal(a, b));
  case compare_op::ne:
    return value::boolean(!equal(a, b));
  case compare_op::lt:
    return value::boolean(less(a, b));
  case compare_op::le:
    return value::boolean(less_equal(a, b));
  case compare_op::gt:
    return value::boolean(less(b, a, ">"));
  case compare_op::ge:
    return value::boolean(less_equal(b, a, ">="));
  case compare_op::in:
    return value::boolean(contains(rt, b, a));
  case compare_op::not_in:
    return value::boolean(!contains(rt, b, a));
  }
  return {};
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '\'':
      out += "&#39;";
      break;
    case '"':
      out += "&#34;";
      break;
    default:
      out += c;
    }
  }
  return out;
}

} // namespace troupe::engine::jinja
