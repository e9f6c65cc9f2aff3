#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::engine::jinja {

/// Python's view of text: code points, not bytes. Input is UTF-8 in which lone surrogates may
/// appear as three bytes; a byte that fits nothing counts as one code point.

/// Reads the code point at `at` and moves past it.
uint32_t next_point(std::string_view text, size_t& at);
void append_point(std::string& out, uint32_t point);
size_t count_points(std::string_view text);
/// Byte offset of code point number `index`; the size of `text` when there are fewer.
size_t offset_of(std::string_view text, size_t index);
/// Each code point as its own string.
std::vector<std::string_view> split_points(std::string_view text);
/// False for malformed bytes and for surrogates.
bool valid_utf8(std::string_view text);

/// str.isspace for one code point; also what strip(), split() and the template lexer skip.
bool is_space(uint32_t point);
bool is_alpha(uint32_t point);
bool is_decimal(uint32_t point);
bool is_digit(uint32_t point);
bool is_numeric(uint32_t point);
bool is_upper(uint32_t point);
bool is_lower(uint32_t point);
bool is_title(uint32_t point);
bool is_printable(uint32_t point);
/// What \w matches.
bool is_word(uint32_t point);

/// str.upper and the others, with the mappings that change the length of the text.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);
std::string capitalize(std::string_view text);
std::string swapcase(std::string_view text);
std::string casefold(std::string_view text);

/// str.strip: of white space, or of the code points in `chars`.
std::string_view strip_space(std::string_view text, bool left, bool right);
std::string_view strip_chars(std::string_view text, std::string_view chars, bool left, bool right);

} // namespace troupe::engine::jinja
