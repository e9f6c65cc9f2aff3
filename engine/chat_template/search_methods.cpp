// Methods of str that look for, count and replace text, and that format.
#include <algorithm>

#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/string_methods.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

/// text[start:end] by code points, and where it begins.
struct window {
  std::string_view text;
  size_t first = 0;  ///< code points before it
  bool valid = true; ///< false when start lies beyond the end: nothing is found there
};

int64_t optional_index(const value& x, int64_t absent, int64_t size) {
  if (x.is_missing() || x.is(kind::none))
    return absent;
  int64_t at = to_integer(x, "slice indices");
  if (at < 0)
    at = std::max<int64_t>(0, at + size);
  return at;
}

window make_window(runtime& rt, const value& self, const value& start, const value& end) {
  const auto& held = self.as<string_object>();
  rt.charge(held.text.size() / 16);
  const auto size = static_cast<int64_t>(held.length);
  const int64_t from = optional_index(start, 0, size);
  const int64_t to = std::min(optional_index(end, size, size), size);
  if (from > size || from > to)
    return {{}, static_cast<size_t>(from), false};
  const std::string_view text = held.text;
  const auto offset = [&](int64_t at) {
    return held.ascii() ? static_cast<size_t>(at) : offset_of(text, static_cast<size_t>(at));
  };
  const size_t first = offset(from), last = offset(to);
  return {text.substr(first, last - first), static_cast<size_t>(from), true};
}

template <bool Reverse, bool Throws>
value find(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "find", {"sub", "start", "end"}, 1, false);
  const auto& what = to_string_argument(bound[0], "find argument");
  const window where = make_window(rt, self, bound[1], bound[2]);
  const size_t at = !where.valid ? std::string::npos
                    : Reverse    ? where.text.rfind(what)
                                 : where.text.find(what);
  if (at != std::string::npos)
    return value::integer(
        static_cast<int64_t>(where.first + count_points(where.text.substr(0, at))));
  if (Throws)
    fail("substring not found");
  return value::integer(-1);
}

value count(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "count", {"sub", "start", "end"}, 1, false);
  const auto& what = to_string_argument(bound[0], "count argument");
  const window where = make_window(rt, self, bound[1], bound[2]);
  if (!where.valid)
    return value::integer(0);
  if (what.empty())
    return value::integer(static_cast<int64_t>(count_points(where.text)) + 1);
  int64_t found = 0;
  for (size_t at = where.text.find(what); at != std::string::npos;
       at = where.text.find(what, at + what.size()))
    ++found;
  return value::integer(found);
}

template <bool End>
value starts(runtime& rt, const value& self, call_values& arguments) {
  const char* name = End ? "endswith" : "startswith";
  const auto bound = bind_arguments(arguments, name, {"prefix", "start", "end"}, 1, false);
  const window where = make_window(rt, self, bound[1], bound[2]);
  const auto fits = [&](const value& what) {
    if (!what.is(kind::string))
      fail(std::string(name) + " first arg must be str or a tuple of str, not " + type_name(what));
    return where.valid &&
           (End ? where.text.ends_with(what.text()) : where.text.starts_with(what.text()));
  };
  if (bound[0].is(flavor::tuple))
    return value::boolean(std::any_of(bound[0].items().begin(), bound[0].items().end(), fits));
  return value::boolean(fits(bound[0]));
}

value replace(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "replace", {"old", "new", "count"}, 2, false);
  const int64_t times = bound[2].is_missing() ? -1 : to_integer(bound[2], "replace()");
  return replace_text(rt, self.text(), to_string_argument(bound[0], "replace() argument 1"),
                      to_string_argument(bound[1], "replace() argument 2"), times);
}

template <bool Left, bool Right>
value strip(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "strip", {"chars"}, 0, false);
  const std::string_view text = self.text();
  if (bound[0].is_missing() || bound[0].is(kind::none))
    return rt.text(std::string(strip_space(text, Left, Right)));
  const auto& chars = to_string_argument(bound[0], "strip arg");
  rt.charge(chars.size() * (text.size() / 64 + 1));
  return rt.text(std::string(strip_chars(text, chars, Left, Right)));
}

template <bool End>
value remove(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "removeprefix", {"prefix"}, 1, false);
  std::string_view text = self.text();
  const auto& what = to_string_argument(bound[0], "removeprefix() argument");
  if (End ? text.ends_with(what) : text.starts_with(what))
    text = End ? text.substr(0, text.size() - what.size()) : text.substr(what.size());
  return rt.text(std::string(text));
}

template <alignment How>
value pad(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "just", {"width", "fillchar"}, 1, false);
  const std::string fill =
      bound[1].is_missing() ? " " : to_string_argument(bound[1], "The fill character");
  if (count_points(fill) != 1)
    fail("The fill character must be exactly one character long");
  return pad_text(rt, self.text(), to_integer(bound[0], "width"), fill, How);
}

value zfill(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "zfill", {"width"}, 1, false);
  const std::string& text = self.text();
  const bool sign = text.starts_with('-') || text.starts_with('+');
  const int64_t width = to_integer(bound[0], "width");
  const value padded =
      pad_text(rt, sign ? text.substr(1) : text, sign ? width - 1 : width, "0", alignment::right);
  return sign ? rt.text(text[0] + padded.text()) : padded;
}

value expand_tabs(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "expandtabs", {"tabsize"});
  const int64_t size = bound[0].is_missing() ? 8 : to_integer(bound[0], "tabsize");
  std::string out;
  int64_t column = 0;
  for (const auto point : split_points(self.text())) {
    if (point != "\t") {
      out += point;
      column = point == "\n" || point == "\r" ? 0 : column + 1;
      continue;
    }
    const int64_t add = size > 0 ? size - column % size : 0;
    if (add > static_cast<int64_t>(rt.allowed().output_bytes_max - out.size()))
      fail_limit("expandtabs: the text becomes too long");
    rt.charge(static_cast<uint64_t>(add) / 8);
    out.append(static_cast<size_t>(add), ' ');
    column += add;
  }
  return rt.text(std::move(out));
}

value format(runtime& rt, const value& self, call_values& arguments) {
  return str_format(rt, self.text(), arguments);
}

value format_map(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "format_map", {"mapping"}, 1, false);
  if (!bound[0].is(kind::dict))
    fail("format_map() argument must be a mapping");
  call_values inner;
  for (const auto& [key, x] : bound[0].as<dict_object>().entries)
    if (key.is(kind::string))
      inner.named.emplace_back(key.text(), x);
  return str_format(rt, self.text(), inner);
}

} // namespace

value replace_text(runtime& rt, const std::string& text, const std::string& from,
                   const std::string& to, int64_t count) {
  rt.charge(text.size() / 16 + 1);
  std::string out;
  const auto add = [&](std::string_view piece) {
    out += piece;
    if (out.size() > rt.allowed().output_bytes_max)
      fail_limit("replace: the text becomes too long");
  };
  uint64_t left = count < 0 ? UINT64_MAX : static_cast<uint64_t>(count);
  if (from.empty()) { // between all code points, and at both ends
    size_t at = 0;
    for (; left > 0; --left) {
      add(to);
      if (at >= text.size())
        break;
      const size_t start = at;
      next_point(text, at);
      add(std::string_view{text}.substr(start, at - start));
    }
    add(std::string_view{text}.substr(at));
    return rt.text(std::move(out));
  }
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string::npos && left > 0;
       at = text.find(from, done), --left) {
    add(std::string_view{text}.substr(done, at - done));
    add(to);
    done = at + from.size();
  }
  add(std::string_view{text}.substr(done));
  return rt.text(std::move(out));
}

value pad_text(runtime& rt, const std::string& text, int64_t width, std::string_view fill,
               alignment how) {
  const auto size = static_cast<int64_t>(count_points(text));
  const int64_t missing = std::max<int64_t>(0, width - size);
  if (static_cast<uint64_t>(missing) > rt.allowed().output_bytes_max / fill.size())
    fail_limit("padding: the text becomes too long");
  rt.charge(static_cast<uint64_t>(missing) / 8);
  // str.center puts the odd one left only when both the gap and the width are odd.
  const int64_t left = how == alignment::left    ? 0
                       : how == alignment::right ? missing
                                                 : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i)
    out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i)
    out += fill;
  return rt.text(std::move(out));
}

std::vector<named_method> search_methods() {
  return {{"find", find<false, false>},
          {"rfind", find<true, false>},
          {"index", find<false, true>},
          {"rindex", find<true, true>},
          {"count", count},
          {"startswith", starts<false>},
          {"endswith", starts<true>},
          {"replace", replace},
          {"strip", strip<true, true>},
          {"lstrip", strip<true, false>},
          {"rstrip", strip<false, true>},
          {"removeprefix", remove<false>},
          {"removesuffix", remove<true>},
          {"ljust", pad<alignment::left>},
          {"rjust", pad<alignment::right>},
          {"center", pad<alignment::center>},
          {"zfill", zfill},
          {"expandtabs", expand_tabs},
          {"format", format},
          {"format_map", format_map}};
}

} // namespace troupe::engine::jinja
