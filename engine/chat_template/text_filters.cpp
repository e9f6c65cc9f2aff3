// Filters that make text of text.
#include <algorithm>

#include "engine/chat_template/filters.hpp"
#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/string_methods.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

template <std::string (*Map)(std::string_view)>
value mapped(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "filter", {});
  return rt.text(Map(as_text(rt, x)), x.is(kind::string) && x.as<string_object>().markup);
}

/// Jinja's own title: a word begins behind white space, a hyphen or an opening bracket.
std::string title_words(std::string_view text) {
  const auto separates = [](uint32_t p) {
    return is_space(p) || p == '-' || p == '(' || p == '{' || p == '[' || p == '<';
  };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    size_t word = at;
    while (word < text.size() && separates(next_point(text, word)))
      at = word;
    out += text.substr(from, at - from);
    const size_t start = at;
    for (word = at; word < text.size() && !separates(next_point(text, word));)
      at = word;
    if (start == at)
      continue;
    size_t second = start;
    next_point(text, second);
    out += upper(text.substr(start, second - start));
    out += lower(text.substr(second, at - second));
  }
  return out;
}

value trim(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "trim", {"chars"});
  const std::string text = as_text(rt, x);
  if (bound[0].is_missing() || bound[0].is(kind::none))
    return rt.text(std::string(strip_space(text, true, true)));
  const auto& chars = to_string_argument(bound[0], "strip arg");
  return rt.text(std::string(strip_chars(text, chars, true, true)));
}

value replace(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "replace", {"old", "new", "count"}, 2);
  const bool all = bound[2].is_missing() || bound[2].is(kind::none);
  return replace_text(rt, as_text(rt, x), as_text(rt, bound[0]), as_text(rt, bound[1]),
                      all ? -1 : to_integer(bound[2], "replace"));
}

value indent(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "indent", {"width", "first", "blank"});
  if (x.is(kind::undefined))
    fail_undefined(x);
  if (!x.is(kind::string))
    fail("indent: expected str, not " + type_name(x));
  std::string step = "    ";
  if (bound[0].is(kind::string)) {
    step = bound[0].text();
  } else if (!bound[0].is_missing()) {
    const int64_t width = to_integer(bound[0], "indent");
    if (width > (1 << 20))
      fail_limit("indent: the width is too large");
    step = std::string(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
  }
  const std::string text = x.text() + "\n";
  const auto lines = split_lines(text, false);
  std::string out = flag(bound[1]) ? step : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0)
      out += '\n';
    if (i > 0 && (flag(bound[2]) || !lines[i].empty()))
      out += step;
    out += lines[i];
    if (out.size() > rt.allowed().output_bytes_max)
      fail_limit("indent: the text becomes too long");
  }
  return rt.text(std::move(out));
}

value string(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "string", {});
  return x.is(kind::string) ? x : rt.text(as_text(rt, x));
}

value safe(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "safe", {});
  return rt.text(as_text(rt, x), true);
}

value force_escape(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "escape", {});
  return rt.text(escape_html(as_text(rt, x)), true);
}

value escape(runtime& rt, const value& x, call_values& arguments) {
  return x.is(kind::string) && x.as<string_object>().markup ? x : force_escape(rt, x, arguments);
}

value format(runtime& rt, const value& x, call_values& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty())
    fail("can't handle positional and keyword arguments at the same time");
  if (arguments.named.empty())
    return printf_format(rt, as_text(rt, x), value::tuple(std::move(arguments.positional)), false);
  std::vector<std::pair<value, value>> entries;
  for (auto& [name, argument] : arguments.named)
    entries.emplace_back(value::string(name), std::move(argument));
  return printf_format(rt, as_text(rt, x), make_dict(std::move(entries)), false);
}

value join(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "join", {"d", "attribute"});
  const std::string separator = bound[0].is_missing() ? "" : as_text(rt, bound[0]);
  if (bound[1].is_missing() || bound[1].is(kind::none))
    return join_text(rt, separator, x, false);
  const attribute_path path{bound[1]};
  std::vector<value> parts;
  cursor items{rt, x};
  while (auto item = items.next())
    parts.push_back(path.of(rt, *item));
  return join_text(rt, separator, rt.list(std::move(parts)), false);
}

value center(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "center", {"width"});
  return pad_text(rt, as_text(rt, x), bound[0].is_missing() ? 80 : to_integer(bound[0], "center"),
                  " ", alignment::center);
}

value word_count(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "wordcount", {});
  const std::string text = as_text(rt, x);
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const bool word = is_word(next_point(text, at));
    count += word && !inside ? 1 : 0;
    inside = word;
  }
  return value::integer(count);
}

value truncate(runtime& rt, const value& x, call_values& arguments) {
  const auto bound =
      bind_arguments(arguments, "truncate", {"length", "killwords", "end", "leeway"});
  const int64_t length = bound[0].is_missing() ? 255 : to_integer(bound[0], "truncate");
  const std::string end = bound[2].is_missing() ? "..." : to_string_argument(bound[2], "end");
  const bool usual = bound[3].is_missing() || bound[3].is(kind::none);
  const int64_t leeway = usual ? 5 : to_integer(bound[3], "truncate");
  const auto end_size = static_cast<int64_t>(count_points(end));
  if (length < end_size || leeway < 0)
    fail("truncate: expected length >= " + std::to_string(end_size) + " and leeway >= 0");
  if (length_of(x) <= length + leeway)
    return x;
  const auto& text = to_string_argument(x, "truncate");
  std::string kept = text.substr(0, offset_of(text, static_cast<size_t>(length - end_size)));
  if (!flag(bound[1]))
    kept = kept.substr(0, kept.rfind(' ')); // npos keeps all of it
  return rt.text(kept + end);
}

std::string quote_url(std::string_view text, bool query) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    if (plain || std::string_view("_.-~").find(c) != std::string_view::npos ||
        (c == '/' && !query)) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += '%';
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  return out;
}

value url_encode(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "urlencode", {});
  if (x.is(kind::string) || !is_iterable(x))
    return rt.text(quote_url(as_text(rt, x), false));
  std::string out;
  const auto add = [&](const value& key, const value& item) {
    out += (out.empty() ? "" : "&") + quote_url(as_text(rt, key), true) + "=" +
           quote_url(as_text(rt, item), true);
  };
  if (x.is(kind::dict)) {
    for (const auto& [key, item] : x.as<dict_object>().entries)
      add(key, item);
    return rt.text(std::move(out));
  }
  cursor pairs{rt, x};
  while (auto pair = pairs.next()) {
    const auto parts = collect(rt, *pair);
    if (parts.size() != 2)
      fail("urlencode: expected pairs of a key and a value");
    add(parts[0], parts[1]);
  }
  return rt.text(std::move(out));
}

value xml_attributes(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "xmlattr", {"autospace"});
  if (!x.is(kind::dict))
    fail("xmlattr: expected a mapping, not " + type_name(x));
  std::string out;
  for (const auto& [key, item] : x.as<dict_object>().entries) {
    if (item.is(kind::none) || item.is(kind::undefined))
      continue;
    const auto& name = to_string_argument(key, "xmlattr: an attribute's name");
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      fail("Invalid character in attribute name: " + quote(name));
    const auto escaped = [&](const value& part) {
      const bool markup = part.is(kind::string) && part.as<string_object>().markup;
      return markup ? part.text() : escape_html(as_text(rt, part));
    };
    out += (out.empty() ? "" : " ") + escaped(key) + "=\"" + escaped(item) + "\"";
  }
  if (flag(bound[0], true) && !out.empty())
    out.insert(0, 1, ' ');
  return rt.text(std::move(out));
}

value to_json_filter(runtime& rt, const value& x, call_values& arguments) {
  const auto bound =
      bind_arguments(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  json_style style;
  style.ascii = flag(bound[0]);
  style.sorted = flag(bound[3]);
  if (bound[1].is(kind::string)) {
    style.indent = bound[1].text();
  } else if (!bound[1].is_missing() && !bound[1].is(kind::none)) {
    const int64_t width = to_integer(bound[1], "tojson: indent");
    if (width > 4096)
      fail_limit("tojson: the indent is too large");
    style.indent = std::string(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
  }
  if (style.indent)
    style.item_separator = ",";
  if (!bound[2].is_missing() && !bound[2].is(kind::none)) {
    const auto pair = collect(rt, bound[2]);
    if (pair.size() != 2)
      fail("tojson: separators must be a pair");
    style.item_separator = to_string_argument(pair[0], "tojson: a separator");
    style.key_separator = to_string_argument(pair[1], "tojson: a separator");
  }
  return rt.text(to_json(rt, x, style));
}

} // namespace

std::string as_text(runtime& rt, const value& x) {
  rt.charge(x.weight());
  return to_text(x);
}

bool flag(const value& given, bool absent) { return given.is_missing() ? absent : truthy(given); }

std::vector<named_function> text_filters() {
  return {{"upper", mapped<upper>},
          {"lower", mapped<lower>},
          {"capitalize", mapped<capitalize>},
          {"title", mapped<title_words>},
          {"trim", trim},
          {"replace", replace},
          {"indent", indent},
          {"string", string},
          {"safe", safe},
          {"escape", escape},
          {"e", escape},
          {"forceescape", force_escape},
          {"format", format},
          {"join", join},
          {"center", center},
          {"wordcount", word_count},
          {"truncate", truncate},
          {"urlencode", url_encode},
          {"xmlattr", xml_attributes},
          {"tojson", to_json_filter}};
}

} // namespace troupe::engine::jinja
