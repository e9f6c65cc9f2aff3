#include "engine/tokenizer/utf8.hpp"

#include <algorithm>
#include <iterator>

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

/// Punctuation of the categories P that the `tokenizers` package, with tables of Unicode 8 or so,
/// does not know, in order.
constexpr char32_t young_punctuation[][2] = {
    {0x061d, 0x061d},   {0x09fd, 0x09fd},   {0x0a76, 0x0a76},   {0x0c77, 0x0c77},
    {0x0c84, 0x0c84},   {0x1b4e, 0x1b4f},   {0x1b7d, 0x1b7f},   {0x2e43, 0x2e4f},
    {0x2e52, 0x2e5d},   {0x10d6e, 0x10d6e}, {0x10ead, 0x10ead}, {0x10f55, 0x10f59},
    {0x10f86, 0x10f89}, {0x113d4, 0x113d8}, {0x1144b, 0x1144f}, {0x1145a, 0x1145b},
    {0x1145d, 0x1145d}, {0x11660, 0x1166c}, {0x116b9, 0x116b9}, {0x1183b, 0x1183b},
    {0x11944, 0x11946}, {0x119e2, 0x119e2}, {0x11a3f, 0x11a46}, {0x11a9a, 0x11a9c},
    {0x11a9e, 0x11aa2}, {0x11b00, 0x11b09}, {0x11be1, 0x11be1}, {0x11c41, 0x11c45},
    {0x11c70, 0x11c71}, {0x11ef7, 0x11ef8}, {0x11f43, 0x11f4f}, {0x11fff, 0x11fff},
    {0x12ff1, 0x12ff2}, {0x16d6d, 0x16d6f}, {0x16e97, 0x16e9a}, {0x16fe2, 0x16fe2},
    {0x1e5ff, 0x1e5ff}, {0x1e95e, 0x1e95f},
};

/// And what it knows, by younger tables than utf8proc's: word characters, numbers.
constexpr char32_t young_words[][2] = {
    {0x0897, 0x0897},   {0x0cf3, 0x0cf3},   {0x0ece, 0x0ece},   {0x1c89, 0x1c8a},
    {0xa7cb, 0xa7cd},   {0xa7da, 0xa7dc},   {0x105c0, 0x105f3}, {0x10d40, 0x10d65},
    {0x10d69, 0x10d6d}, {0x10d6f, 0x10d85}, {0x10ec2, 0x10ec4}, {0x10efc, 0x10eff},
    {0x1123f, 0x11241}, {0x11380, 0x11389}, {0x1138b, 0x1138b}, {0x1138e, 0x1138e},
    {0x11390, 0x113b5}, {0x113b7, 0x113c0}, {0x113c2, 0x113c2}, {0x113c5, 0x113c5},
    {0x113c7, 0x113ca}, {0x113cc, 0x113d3}, {0x113e1, 0x113e2}, {0x116d0, 0x116e3},
    {0x11bc0, 0x11be0}, {0x11bf0, 0x11bf9}, {0x11f00, 0x11f10}, {0x11f12, 0x11f3a},
    {0x11f3e, 0x11f42}, {0x11f50, 0x11f5a}, {0x1342f, 0x1342f}, {0x13440, 0x13455},
    {0x13460, 0x143fa}, {0x16100, 0x16139}, {0x16d40, 0x16d6c}, {0x16d70, 0x16d79},
    {0x18cff, 0x18cff}, {0x1b132, 0x1b132}, {0x1b155, 0x1b155}, {0x1ccf0, 0x1ccf9},
    {0x1df25, 0x1df2a}, {0x1e030, 0x1e06d}, {0x1e08f, 0x1e08f}, {0x1e4d0, 0x1e4f9},
    {0x1e5d0, 0x1e5fa}, {0x2b739, 0x2b739}, {0x2ebf0, 0x2ee5d}, {0x31350, 0x323af},
};
constexpr char32_t young_numbers[][2] = {
    {0x10d40, 0x10d49}, {0x116d0, 0x116e3}, {0x11bf0, 0x11bf9}, {0x11de0, 0x11de9},
    {0x11f50, 0x11f59}, {0x16130, 0x16139}, {0x16d70, 0x16d79}, {0x16ff4, 0x16ff6},
    {0x1ccf0, 0x1ccf9}, {0x1d2c0, 0x1d2d3}, {0x1e4f0, 0x1e4f9}, {0x1e5f1, 0x1e5fa},
};

template <size_t Count>
bool is_in(const char32_t (&ranges)[Count][2], char32_t c) {
  const auto* at = std::lower_bound(std::begin(ranges), std::end(ranges), c,
                                    [](const auto& range, char32_t x) { return range[1] < x; });
  return at != std::end(ranges) && (*at)[0] <= c;
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
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
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
           (c >= 0x1f170 && c <= 0x1f189) || is_in(young_words, c);
  }
}

bool is_numeric(char32_t c) {
  const auto what = category(c);
  return what == UTF8PROC_CATEGORY_ND || what == UTF8PROC_CATEGORY_NL ||
         what == UTF8PROC_CATEGORY_NO || is_in(young_numbers, c);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  if (c == 0x166d || c == 0x111c9)
    return true; // symbol and mark by now
  const auto what = category(c);
  return what >= UTF8PROC_CATEGORY_PC && what <= UTF8PROC_CATEGORY_PO &&
         !is_in(young_punctuation, c);
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
