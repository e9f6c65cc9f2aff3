// Filters about numbers.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/chat_template/filters.hpp"
#include "engine/chat_template/literals.hpp"
#include "engine/chat_template/operators.hpp"

namespace troupe::engine::jinja {

namespace {

int64_t truncate_real(double x) {
  if (std::fabs(x) >= 9.2233720368547758e18)
    fail("an integer does not fit in 64 bits");
  return static_cast<int64_t>(x);
}

value to_int(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "int", {"default", "base"});
  const value fallback = bound[0].is_missing() ? value::integer(0) : bound[0];
  if (x.is(kind::undefined))
    fail_undefined(x);
  if (x.is_int())
    return value::integer(x.as_int());
  std::optional<double> real;
  if (x.is(kind::string)) {
    rt.charge(x.weight());
    const int64_t base = bound[1].is_missing() ? 10 : to_integer(bound[1], "int");
    const bool good_base = base == 0 || (base >= 2 && base <= 36);
    if (const auto whole = good_base ? parse_integer(x.text(), base) : std::nullopt)
      return value::integer(*whole);
    real = parse_real(x.text());
  } else if (x.is(kind::real)) {
    real = x.as_real();
  }
  if (!real || std::isnan(*real) || std::isinf(*real)) {
    if (real && x.is(kind::real) && std::isinf(*real))
      fail("cannot convert float infinity to integer");
    return fallback;
  }
  return value::integer(truncate_real(*real));
}

value to_float(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "float", {"default"});
  if (x.is(kind::undefined))
    fail_undefined(x);
  if (x.is_number())
    return value::real(x.as_real());
  if (x.is(kind::string)) {
    rt.charge(x.weight());
    if (const auto real = parse_real(x.text()))
      return value::real(*real);
  }
  return bound[0].is_missing() ? value::real(0) : bound[0];
}

value absolute(runtime&, const value& x, call_values& arguments) {
  bind_arguments(arguments, "abs", {});
  if (x.is_int())
    return x.as_int() < 0 ? negate(x) : value::integer(x.as_int());
  if (x.is(kind::real))
    return value::real(std::fabs(x.as_real()));
  fail("bad operand type for abs(): '" + type_name(x) + "'");
}

/// Rounds half to even on the exact decimal value, as Python does.
double round_real(double x, int64_t digits) {
  if (!std::isfinite(x) || digits > 323)
    return x;
  if (digits < -308)
    return std::copysign(0.0, x);
  if (digits >= 0) {
    char buffer[800];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), x);
    return std::strtod(buffer, nullptr);
  }
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(x / unit) * unit;
}

int64_t round_integer(int64_t x, int64_t digits) {
  if (digits >= 0)
    return x;
  if (digits < -18)
    return 0;
  int64_t unit = 1;
  for (int64_t i = 0; i < -digits; ++i)
    unit *= 10;
  int64_t rest = x % unit;
  int64_t base = x - rest;
  if (rest < 0) {
    rest += unit;
    base -= unit;
  }
  const bool odd = (base / unit) % 2 != 0;
  const bool up = rest > unit - rest || (rest == unit - rest && odd);
  int64_t out = base;
  if (up && __builtin_add_overflow(base, unit, &out))
    fail("an integer does not fit in 64 bits");
  return out;
}

value round(runtime&, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "round", {"precision", "method"});
  const std::string how = bound[1].is_missing() ? "common" : to_text(bound[1]);
  if (how != "common" && how != "ceil" && how != "floor")
    fail("method must be common, ceil or floor");
  if (!x.is_number())
    fail("type " + type_name(x) + " doesn't define __round__ method");
  if (how == "common") {
    if (bound[0].is(kind::none) && x.is(kind::real))
      return value::integer(truncate_real(std::nearbyint(x.as_real())));
    const int64_t digits =
        bound[0].is_missing() || bound[0].is(kind::none) ? 0 : to_integer(bound[0], "round");
    return x.is_int() ? value::integer(round_integer(x.as_int(), digits))
                      : value::real(round_real(x.as_real(), digits));
  }
  const int64_t digits = bound[0].is_missing() ? 0 : to_integer(bound[0], "round");
  const double unit = std::pow(10.0, static_cast<double>(digits));
  const double scaled = x.as_real() * unit;
  if (!std::isfinite(scaled))
    fail("cannot convert float to integer");
  const double whole = how == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  return value::real(whole == 0 ? 0.0
                                : whole / unit); // an integer in Python: it has no negative zero
}

value file_size(runtime&, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "filesizeformat", {"binary"});
  const bool binary = flag(bound[0]);
  std::optional<double> size;
  if (x.is_number())
    size = x.as_real();
  else if (x.is(kind::string))
    size = parse_real(x.text());
  if (!size)
    fail("filesizeformat: could not convert " + type_name(x) + " to float");
  const double base = binary ? 1024 : 1000;
  if (*size == 1)
    return value::string("1 Byte");
  if (*size < base)
    return value::string(std::to_string(truncate_real(*size)) + " Bytes");
  static constexpr char prefixes[] = "kMGTPEZY";
  double unit = base;
  for (int i = 0;; ++i) {
    unit *= base;
    if (*size < unit || i == 7) {
      const char prefix = i == 0 && binary ? 'K' : prefixes[i];
      return value::string(format_real(base * *size / unit, 'f', 1, false) + " " + prefix +
                           (binary ? "iB" : "B"));
    }
  }
}

} // namespace

std::vector<named_function> number_filters() {
  return {{"int", to_int},
          {"float", to_float},
          {"abs", absolute},
          {"round", round},
          {"filesizeformat", file_size}};
}

} // namespace troupe::engine::jinja
