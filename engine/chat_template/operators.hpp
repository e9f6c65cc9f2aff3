#pragma once
#include "engine/chat_template/ast.hpp"
#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

/// Python's arithmetic operators for the kinds add ... pow. Integers are 64 bit: beyond is an
/// error.
value arithmetic(runtime& rt, expr_kind op, const value& a, const value& b);
value negate(const value& x);
value plus(const value& x);

/// a < b; a TypeError when Python has no order for the two. `op` is for the error's text.
bool less(const value& a, const value& b, const char* op = "<");
bool less_equal(const value& a, const value& b, const char* op = "<=");
/// needle in haystack.
bool contains(runtime& rt, const value& haystack, const value& needle);
value compare(runtime& rt, compare_op op, const value& a, const value& b);

/// x[start:stop:step]; a missing bound is absent.
value slice(runtime& rt, const value& x, const value& start, const value& stop, const value& step);

/// format % arguments, and format.format(...).
value printf_format(runtime& rt, const std::string& format, const value& arguments, bool markup);
value str_format(runtime& rt, const std::string& format, const call_values& arguments);
/// One value by a format specification such as ">8.2f".
std::string format_value(const value& x, std::string_view spec);
/// A float the way C's printf writes it, with Python's spelling of infinity and NaN.
std::string format_real(double x, char type, int precision, bool alternate);

/// json.dumps.
struct json_style {
  bool ascii = false;
  bool sorted = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string to_json(runtime& rt, const value& x, const json_style& style);

/// & < > ' " as HTML entities.
std::string escape_html(std::string_view text);

} // namespace troupe::engine::jinja
