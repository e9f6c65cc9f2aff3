#include "engine/tokenizer/unicode_form.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include <utf8proc.h>

#include "engine/tokenizer/utf8.hpp"

namespace troupe::engine {

namespace {

struct range {
  char32_t first, last;
};

/// Marks, and characters with a decomposition, that Unicode got after version 9.
constexpr range young_ranges[] = {
    {0x07fd, 0x07fd},   {0x0897, 0x089f},   {0x08ca, 0x08d3},   {0x09fe, 0x09fe},
    {0x0afa, 0x0aff},   {0x0b55, 0x0b55},   {0x0c04, 0x0c04},   {0x0c3c, 0x0c3c},
    {0x0cf3, 0x0cf3},   {0x0d00, 0x0d00},   {0x0d3b, 0x0d3c},   {0x0d81, 0x0d81},
    {0x0eba, 0x0eba},   {0x0ece, 0x0ece},   {0x1715, 0x1715},   {0x180f, 0x180f},
    {0x1abf, 0x1aff},   {0x1cf7, 0x1cf7},   {0x1df6, 0x1dfa},   {0x32ff, 0x32ff},
    {0xa7f1, 0xa7f4},   {0xa82c, 0xa82c},   {0xa8ff, 0xa8ff},   {0xab69, 0xab69},
    {0x105c0, 0x105ff}, {0x10780, 0x107bf}, {0x10d00, 0x10d8f}, {0x10e80, 0x10ebf},
    {0x10efa, 0x10eff}, {0x10f00, 0x10faf}, {0x11070, 0x11070}, {0x11073, 0x11074},
    {0x110c2, 0x110c2}, {0x11145, 0x11146}, {0x111c9, 0x111c9}, {0x111ce, 0x111cf},
    {0x11241, 0x11241}, {0x1133b, 0x1133b}, {0x11380, 0x113ff}, {0x1145e, 0x1145e},
    {0x11800, 0x1184f}, {0x11900, 0x1195f}, {0x119a0, 0x119ff}, {0x11a00, 0x11aaf},
    {0x11b60, 0x11b67}, {0x11d00, 0x11daf}, {0x11ee0, 0x11eff}, {0x11f00, 0x11f5f},
    {0x13430, 0x1345f}, {0x16100, 0x1613f}, {0x16d40, 0x16d7f}, {0x16f4f, 0x16f4f},
    {0x16f7f, 0x16f87}, {0x16fe4, 0x16fe4}, {0x16ff0, 0x16ff1}, {0x1cc00, 0x1cfcf},
    {0x1e030, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
    {0x1e4ec, 0x1e4ef}, {0x1e5ee, 0x1e5ef}, {0x1e6e3, 0x1e6f5}, {0x1f16c, 0x1f16c},
    {0x1fbf0, 0x1fbf9},
};

bool is_in(char32_t c, const range* begin, const range* end) {
  const auto* at =
      std::lower_bound(begin, end, c, [](const range& r, char32_t x) { return r.last < x; });
  return at != end && at->first <= c;
}

bool is_young(char32_t c) {
  return c >= young_ranges[0].first && is_in(c, std::begin(young_ranges), std::end(young_ranges));
}

/// Letters and signs that NFC leaves alone wherever they stand: starters without a decomposition
/// that no character before them composes with. Not all such characters, only the usual ones.
constexpr range settled_in_nfc[] = {
    {0x0000, 0x02ff},   {0x0391, 0x03ff}, {0x0400, 0x0482}, {0x048a, 0x052f}, {0x05d0, 0x05ea},
    {0x0621, 0x064a},   {0x0660, 0x066f}, {0x0904, 0x0928}, {0x0e01, 0x0e30}, {0x2010, 0x2027},
    {0x2190, 0x21ff},   {0x2200, 0x2328}, {0x232b, 0x2adb}, {0x3001, 0x3029}, {0x3041, 0x3096},
    {0x30a1, 0x30fa},   {0x30fc, 0x30ff}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0xff01, 0xff9d},
    {0x1f300, 0x1faff},
};

/// `c` stays as it is and ends what an earlier character may have to do with a later one.
bool is_settled(unicode_form form, char32_t c) {
  if (c < 0x80)
    return true;
  return form == unicode_form::nfc &&
         is_in(c, std::begin(settled_in_nfc), std::end(settled_in_nfc));
}

void append_mapped(unicode_form form, std::string_view text, std::string& out) {
  const bool composes = form == unicode_form::nfc || form == unicode_form::nfkc;
  const bool compatible = form == unicode_form::nfkc || form == unicode_form::nfkd;
  const auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (compatible ? UTF8PROC_COMPAT : 0));
  utf8proc_uint8_t* mapped = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &mapped, options);
  if (size < 0) // only out of memory: the input is valid UTF-8
    out += text;
  else
    out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);
}

} // namespace

std::string to_form(unicode_form form, std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  size_t done = 0; // what is before was appended
  size_t base = 0; // the last settled character, which marks behind it may change
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const auto c = utf8::next(text, at);
    if (is_settled(form, c)) {
      base = begin;
      continue;
    }
    if (is_young(c)) {
      base = at;
      continue;
    }
    for (size_t end = at; end < text.size(); at = end) { // the whole stretch at once
      const auto next = utf8::next(text, end);
      if (is_settled(form, next) || is_young(next))
        break;
    }
    out += text.substr(done, base - done);
    append_mapped(form, text.substr(base, at - base), out);
    done = base = at;
  }
  out += text.substr(done);
  return out;
}

bool is_mark(char32_t c) {
  if (c == 0x1cf2 || c == 0x1cf3)
    return true; // letters since Unicode 12
  const auto what = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return what >= UTF8PROC_CATEGORY_MN && what <= UTF8PROC_CATEGORY_ME && !is_young(c);
}

} // namespace troupe::engine
