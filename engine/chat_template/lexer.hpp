#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::engine::jinja {

enum class token_type : uint8_t {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  real,
  add,
  sub,
  mul,
  div,
  floordiv,
  mod,
  pow,
  tilde,
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  assign,
  dot,
  colon,
  comma,
  semicolon,
  pipe,
  lparen,
  rparen,
  lbracket,
  rbracket,
  lbrace,
  rbrace,
  eof,
};

struct token {
  token_type type = token_type::eof;
  uint32_t line = 1;
  std::string text; ///< data, the name, or the string with its escapes resolved
  int64_t integer = 0;
  double real = 0;
};

/// What a token is called in an error message.
std::string describe(const token& x);
std::string describe(token_type type);

/// Splits a template, with white space control applied (trim_blocks and lstrip_blocks are on, one
/// newline at the very end is dropped). Comments and the marks of raw blocks do not come out.
/// The last token is eof. Throws failure.
std::vector<token> tokenize(std::string_view source);

} // namespace troupe::engine::jinja
