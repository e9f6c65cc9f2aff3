#pragma once
#include <cstdint>
#include <string>
#include <string_view>

/// UTF-8 as the tokenizer needs it. Functions that take `text` expect valid UTF-8 unless they say
/// otherwise; `sanitize` makes it so.
namespace troupe::engine::utf8 {

/// Length of the well-formed character at the start of `bytes`, or 0. When 0, `bad` is the number
/// of bytes that one U+FFFD stands for (Unicode's maximal subparts, as Rust and WHATWG do it), and
/// `truncated` tells that `bytes` ended inside a character that was fine so far.
struct scan_result {
  size_t length = 0;
  size_t bad = 0;
  bool truncated = false;
};
scan_result scan(std::string_view bytes);

/// Any bytes -> valid UTF-8: each maximal invalid subpart becomes U+FFFD.
std::string sanitize(std::string_view bytes);
bool valid(std::string_view bytes);

/// The character at `at`; moves `at` behind it.
char32_t next(std::string_view text, size_t& at);
/// Bytes of the character that starts with `lead`.
size_t length(char lead);
void append(std::string& out, char32_t character);

bool is_whitespace(char32_t c);  ///< property White_Space
bool is_word(char32_t c);        ///< \w of UTS 18: alphabetic, marks, digits, connectors, joiners
bool is_numeric(char32_t c);     ///< Nd, Nl, No
bool is_punctuation(char32_t c); ///< ASCII punctuation or category P

/// Bytes as they arrive -> whole characters; holds back what may still become a character.
class assembler {
public:
  void push(std::string_view bytes, std::string& out);
  /// What was held back can no longer be completed.
  void flush(std::string& out);

private:
  std::string held_;
};

} // namespace troupe::engine::utf8
