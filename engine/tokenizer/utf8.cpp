#include "engine/tokenizer/utf8.hpp"

#include <utf8proc.h>

namespace troupe::engine::utf8 {

namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";

/// Bytes that a lead byte announces, and the range of the second byte (Unicode table 3-7).
struct lead_rule {
  size_t length;
  uint8_t low, high;
};
lead_rule rule_of(uint8_t lead) {
  if (lead < 0x80)
    return {1, 0, 0};
  if (lead >= 0xc2 && lead <= 0xdf)
    return {2, 0x80, 0xbf};
  if (lead == 0xe0)
    return {3, 0xa0, 0xbf};
  if (lead == 0xed)
    return {3, 0x80, 0x9f};
  if (lead >= 0xe1 && lead <= 0xef)
    return {3, 0x80, 0xbf};
  if (lead == 0xf0)
    return {4, 0x90, 0xbf};
  if (lead >= 0xf1 && lead <= 0xf3)
    return {4, 0x80, 0xbf};
  if (lead == 0xf4)
    return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

} // namespace

scan_result scan(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const auto rule = rule_of(byte(0));
  if (rule.length == 0)
    return {0, 1, false};
  for (size_t i = 1; i < rule.length; ++i) {
    if (i == bytes.size())
      return {0, i, true};
    const uint8_t low = i == 1 ? rule.low : 0x80, high = i == 1 ? rule.high : 0xbf;
    if (byte(i) < low || byte(i) > high)
      return {0, i, false};
  }
  return {rule.length, 0, false};
}

bool valid(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto step = scan(bytes).length;
    if (step == 0)
      return false;
    bytes.remove_prefix(step);
  }
  return true;
}

std::string sanitize(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const auto step = scan(bytes);
    out += step.length ? bytes.substr(0, step.length) : replacement;
    bytes.remove_prefix(step.length ? step.length : step.bad);
  }
  return out;
}

size_t length(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

char32_t next(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const size_t size = length(text[at]);
  char32_t c = size == 1 ? byte(at) : byte(at) & (0xffu >> (size + 1));
  for (size_t i = 1; i < size; ++i)
    c = (c << 6) | (byte(at + i) & 0x3fu);
  at += size;
  return c;
}

void append(std::string& out, char32_t c) {
  utf8proc_uint8_t buffer[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), buffer);
  out.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(size));
}

bool is_whitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

bool is_word(char32_t c) {
  switch (category(c)) {
  case UTF8PROC_CATEGORY_LU:
  case UTF8PROC_CATEGORY_LL:
  case UTF8PROC_CATEGORY_LT:
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_LO:
  case UTF8PROC_CATEGORY_MN:
  case UTF8PROC_CATEGORY_MC:
  case UTF8PROC_CATEGORY_ME:
  case UTF8PROC_CATEGORY_ND:
  case UTF8PROC_CATEGORY_NL:
  case UTF8PROC_CATEGORY_PC:
    return true;
  default: // the alphabetic symbols (circled and squared letters) and the joiners
    return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
           (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
           (c >= 0x1f170 && c <= 0x1f189);
  }
}

bool is_numeric(char32_t c) {
  const auto what = category(c);
  return what == UTF8PROC_CATEGORY_ND || what == UTF8PROC_CATEGORY_NL ||
         what == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  const auto what = category(c);
  return what >= UTF8PROC_CATEGORY_PC && what <= UTF8PROC_CATEGORY_PO;
}

void assembler::push(std::string_view bytes, std::string& out) {
  held_ += bytes;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const auto step = scan(rest);
    if (step.truncated)
      break;
    out += step.length ? rest.substr(0, step.length) : replacement;
    rest.remove_prefix(step.length ? step.length : step.bad);
  }
  held_.erase(0, held_.size() - rest.size());
}

void assembler::flush(std::string& out) {
  out += sanitize(held_);
  held_.clear();
}

} // namespace troupe::engine::utf8
