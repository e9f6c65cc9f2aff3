#pragma once
#include <cstdint>
#include <string>
#include <string_view>

/// Writing JSON by hand where a token passes through: no tree, no copy.
namespace troupe::gateway {

/// Appends `text` as a JSON string with quotes. Bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// Appends the shortest text that reads back as `value`; JSON has no infinities, so those and NaN
/// become -9999, which the OpenAI API uses for "as good as impossible".
void append_json_number(std::string& out, float value);
void append_json_number(std::string& out, uint64_t value);

/// Length of the valid UTF-8 sequence at the front of `text`, 0 when there is none.
size_t utf8_length(std::string_view text);

/// Unicode characters in valid UTF-8.
size_t count_characters(std::string_view text);

} // namespace troupe::gateway
