#include "engine/chat_template/unicode.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include <utf8proc.h>

#include "engine/chat_template/case_tables.hpp"

namespace troupe::engine::jinja {

namespace {

template <size_t N>
bool within(const point_range (&table)[N], uint32_t point) {
  const auto* at = std::upper_bound(std::begin(table), std::end(table), point,
                                    [](uint32_t x, const point_range& r) { return x < r.first; });
  return at != std::begin(table) && point <= (at - 1)->last;
}

const long_case* find_long_case(uint32_t point) {
  if (point < 0xdf)
    return nullptr;
  const auto* at = std::lower_bound(std::begin(long_cases), std::end(long_cases), point,
                                    [](const long_case& x, uint32_t p) { return x.point < p; });
  return at != std::end(long_cases) && at->point == point ? at : nullptr;
}

utf8proc_category_t category(uint32_t point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(point));
}

bool is_cased(uint32_t point) { return is_lower(point) || is_upper(point) || is_title(point); }

bool is_case_ignorable(uint32_t point) {
  switch (category(point)) {
  case UTF8PROC_CATEGORY_MN:
  case UTF8PROC_CATEGORY_ME:
  case UTF8PROC_CATEGORY_CF:
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_SK:
    return true;
  default:
    return point == '\'' || point == '.' || point == ':' || point == 0xb7 || point == 0x387 ||
           point == 0x2019 || point == 0x2018 || point == 0x2024 || point == 0x2027;
  }
}

void append_upper(std::string& out, uint32_t point) {
  if (const auto* special = find_long_case(point))
    out += special->upper;
  else
    append_point(out, static_cast<uint32_t>(utf8proc_toupper(static_cast<int32_t>(point))));
}

void append_title(std::string& out, uint32_t point) {
  if (const auto* special = find_long_case(point))
    out += special->title;
  else
    append_point(out, static_cast<uint32_t>(utf8proc_totitle(static_cast<int32_t>(point))));
}

constexpr uint32_t capital_sigma = 0x3a3;

/// Whether no letter follows directly: a capital sigma that ends a word has a small letter of its
/// own.
bool ends_word(std::string_view text, size_t after) {
  while (after < text.size()) {
    const uint32_t point = next_point(text, after);
    if (!is_case_ignorable(point))
      return !is_cased(point);
  }
  return true;
}

/// Lowers code points in the order of the text: what came before decides about a sigma.
class lowering {
public:
  explicit lowering(std::string_view text) : text_{text} {}
  void append(std::string& out, uint32_t point, size_t after) {
    if (point == 0x130)
      out += "i\u0307";
    else if (point == capital_sigma)
      append_point(out, after_letter_ && ends_word(text_, after) ? 0x3c2 : 0x3c3);
    else
      append_point(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<int32_t>(point))));
  }
  void passed(uint32_t point) {
    if (point < 0x80 ? point != '\'' && point != '.' && point != ':' && point != '^' && point != '`'
                     : !is_case_ignorable(point))
      after_letter_ = is_cased(point);
  }

private:
  std::string_view text_;
  bool after_letter_ = false;
};

template <class Append>
std::string map_points(std::string_view text, Append append) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const uint32_t point = next_point(text, at);
    append(out, point, from, at);
  }
  return out;
}

template <class Drop>
std::string_view strip_if(std::string_view text, bool left, bool right, Drop drop) {
  while (left && !text.empty()) {
    size_t at = 0;
    if (!drop(next_point(text, at)))
      break;
    text.remove_prefix(at);
  }
  while (right && !text.empty()) {
    size_t from = text.size() - 1;
    for (int back = 0; back < 3 && from > 0 && (text[from] & 0xc0) == 0x80; ++back)
      --from;
    size_t at = from;
    uint32_t point = next_point(text, at);
    if (at != text.size()) { // stray continuation bytes: each stands alone
      from = at = text.size() - 1;
      point = next_point(text, at);
    }
    if (!drop(point))
      break;
    text.remove_suffix(text.size() - from);
  }
  return text;
}

} // namespace

uint32_t next_point(std::string_view text, size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at++]);
  if (lead < 0x80)
    return lead;
  const size_t more = lead >= 0xf0 && lead < 0xf5 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc2 ? 1 : 0;
  if (more == 0 || lead >= 0xf5 || at + more > text.size())
    return 0xdc00u + lead; // as Python's surrogateescape
  uint32_t point = lead & (0x3fu >> more);
  for (size_t i = 0; i < more; ++i) {
    const auto byte = static_cast<unsigned char>(text[at + i]);
    if ((byte & 0xc0) != 0x80)
      return 0xdc00u + lead;
    point = (point << 6) | (byte & 0x3fu);
  }
  constexpr uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
  if (point < smallest[more] || point > 0x10ffff)
    return 0xdc00u + lead;
  at += more;
  return point;
}

void append_point(std::string& out, uint32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xc0 | (point >> 6));
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    out += static_cast<char>(0xe0 | (point >> 12));
    out += static_cast<char>(0x80 | ((point >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (point >> 18));
    out += static_cast<char>(0x80 | ((point >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((point >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  }
}

size_t count_points(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count)
    if (static_cast<unsigned char>(text[at]) < 0x80)
      ++at;
    else
      next_point(text, at);
  return count;
}

size_t offset_of(std::string_view text, size_t index) {
  size_t at = 0;
  for (; index > 0 && at < text.size(); --index)
    next_point(text, at);
  return at;
}

std::vector<std::string_view> split_points(std::string_view text) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    next_point(text, at);
    out.push_back(text.substr(from, at - from));
  }
  return out;
}

bool valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const uint32_t point = next_point(text, at);
    if (point >= 0xd800 && point < 0xe000)
      return false;
  }
  return true;
}

bool is_space(uint32_t point) {
  if (point < 0x80)
    return point == ' ' || (point >= 9 && point <= 13) || (point >= 28 && point <= 31);
  return point == 0x85 || point == 0xa0 || point == 0x1680 ||
         (point >= 0x2000 && point <= 0x200a) || point == 0x2028 || point == 0x2029 ||
         point == 0x202f || point == 0x205f || point == 0x3000;
}

bool is_alpha(uint32_t point) {
  const auto c = category(point);
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(uint32_t point) { return category(point) == UTF8PROC_CATEGORY_ND; }
bool is_digit(uint32_t point) { return is_decimal(point) || within(other_digits, point); }

bool is_numeric(uint32_t point) {
  const auto c = category(point);
  return (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO) || within(other_numeric, point);
}

bool is_upper(uint32_t point) {
  return category(point) == UTF8PROC_CATEGORY_LU || within(other_upper, point);
}

bool is_lower(uint32_t point) {
  return category(point) == UTF8PROC_CATEGORY_LL || within(other_lower, point);
}

bool is_title(uint32_t point) { return category(point) == UTF8PROC_CATEGORY_LT; }

bool is_printable(uint32_t point) {
  if (point < 0x80)
    return point >= 0x20 && point < 0x7f;
  switch (category(point)) {
  case UTF8PROC_CATEGORY_CN:
  case UTF8PROC_CATEGORY_CC:
  case UTF8PROC_CATEGORY_CF:
  case UTF8PROC_CATEGORY_CS:
  case UTF8PROC_CATEGORY_CO:
  case UTF8PROC_CATEGORY_ZS:
  case UTF8PROC_CATEGORY_ZL:
  case UTF8PROC_CATEGORY_ZP:
    return false;
  default:
    return true;
  }
}

bool is_word(uint32_t point) { return point == '_' || is_alpha(point) || is_numeric(point); }

std::string upper(std::string_view text) {
  return map_points(
      text, [](std::string& out, uint32_t point, size_t, size_t) { append_upper(out, point); });
}

std::string lower(std::string_view text) {
  lowering low{text};
  return map_points(text, [&](std::string& out, uint32_t point, size_t, size_t after) {
    low.append(out, point, after);
    low.passed(point);
  });
}

std::string title(std::string_view text) {
  lowering low{text};
  bool inside = false;
  return map_points(text, [&](std::string& out, uint32_t point, size_t, size_t after) {
    if (inside)
      low.append(out, point, after);
    else
      append_title(out, point);
    low.passed(point);
    inside = is_cased(point);
  });
}

std::string capitalize(std::string_view text) {
  lowering low{text};
  return map_points(text, [&](std::string& out, uint32_t point, size_t at, size_t after) {
    if (at == 0)
      append_title(out, point);
    else
      low.append(out, point, after);
    low.passed(point);
  });
}

std::string swapcase(std::string_view text) {
  lowering low{text};
  return map_points(text, [&](std::string& out, uint32_t point, size_t, size_t after) {
    if (is_upper(point))
      low.append(out, point, after);
    else if (is_lower(point))
      append_upper(out, point);
    else
      append_point(out, point);
    low.passed(point);
  });
}

std::string casefold(std::string_view text) {
  utf8proc_uint8_t* folded = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &folded, UTF8PROC_CASEFOLD);
  if (size < 0)
    return lower(text); // malformed input: fold what can be folded
  std::string out(reinterpret_cast<const char*>(folded), static_cast<size_t>(size));
  std::free(folded);
  return out;
}

std::string_view strip_space(std::string_view text, bool left, bool right) {
  return strip_if(text, left, right, is_space);
}

std::string_view strip_chars(std::string_view text, std::string_view chars, bool left, bool right) {
  std::vector<uint32_t> drop;
  for (size_t at = 0; at < chars.size();)
    drop.push_back(next_point(chars, at));
  return strip_if(text, left, right, [&](uint32_t point) {
    return std::find(drop.begin(), drop.end(), point) != drop.end();
  });
}

} // namespace troupe::engine::jinja
