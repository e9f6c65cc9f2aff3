// Methods of str that take text apart and put it together, and the table of them all.
#include <algorithm>
#include <unordered_map>

#include "engine/chat_template/string_methods.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

using pieces = std::vector<std::string_view>;

value to_list(runtime& rt, const pieces& parts) {
  std::vector<value> out;
  out.reserve(parts.size());
  for (const auto part : parts)
    out.push_back(rt.text(std::string(part)));
  return rt.list(std::move(out));
}

/// Where the last word of `text`, which ends with one, begins.
size_t last_word(std::string_view text) {
  for (size_t from = text.size(); from > 0;) {
    size_t start = from - 1;
    while (start > 0 && from - start < 4 && (text[start] & 0xc0) == 0x80)
      --start;
    size_t end = start;
    if (is_space(next_point(text, end)))
      return from;
    from = start;
  }
  return 0;
}

pieces split_words_back(std::string_view text, int64_t splits_max) {
  pieces out;
  text = strip_space(text, false, true);
  while (!text.empty()) {
    if (splits_max >= 0 && static_cast<int64_t>(out.size()) == splits_max) {
      out.push_back(text);
      break;
    }
    const size_t start = last_word(text);
    out.push_back(text.substr(start));
    text = strip_space(text.substr(0, start), false, true);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

pieces split_by(std::string_view text, std::string_view separator, int64_t splits_max) {
  pieces out;
  size_t from = 0;
  while (splits_max < 0 || static_cast<int64_t>(out.size()) < splits_max) {
    const size_t at = text.find(separator, from);
    if (at == text.npos)
      break;
    out.push_back(text.substr(from, at - from));
    from = at + separator.size();
  }
  out.push_back(text.substr(from));
  return out;
}

pieces split_back_by(std::string_view text, std::string_view separator, int64_t splits_max) {
  pieces out;
  while (splits_max < 0 || static_cast<int64_t>(out.size()) < splits_max) {
    const size_t at = text.rfind(separator);
    if (at == text.npos)
      break;
    out.push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  out.push_back(text);
  std::reverse(out.begin(), out.end());
  return out;
}

template <bool Back>
value split(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, Back ? "rsplit" : "split", {"sep", "maxsplit"});
  const int64_t splits_max = bound[1].is_missing() ? -1 : to_integer(bound[1], "maxsplit");
  const std::string_view text = self.text();
  rt.charge(text.size() / 8 + 1);
  if (bound[0].is_missing() || bound[0].is(kind::none))
    return to_list(rt, Back ? split_words_back(text, splits_max) : split_words(text, splits_max));
  const auto& separator = to_string_argument(bound[0], "sep");
  if (separator.empty())
    fail("empty separator");
  return to_list(rt, Back ? split_back_by(text, separator, splits_max)
                          : split_by(text, separator, splits_max));
}

template <bool Back>
value partition(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "partition", {"sep"}, 1, false);
  const auto& separator = to_string_argument(bound[0], "sep");
  if (separator.empty())
    fail("empty separator");
  const std::string_view text = self.text();
  const size_t at = Back ? text.rfind(separator) : text.find(separator);
  const auto make = [&](std::string_view part) { return rt.text(std::string(part)); };
  if (at == text.npos)
    return Back ? value::tuple({make({}), make({}), self})
                : value::tuple({self, make({}), make({})});
  return value::tuple(
      {make(text.substr(0, at)), make(separator), make(text.substr(at + separator.size()))});
}

value splitlines(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "splitlines", {"keepends"});
  return to_list(rt, split_lines(self.text(), !bound[0].is_missing() && truthy(bound[0])));
}

value join(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "join", {"iterable"}, 1, false);
  return join_text(rt, self.text(), bound[0], true);
}

bool is_line_end(uint32_t x) {
  return (x >= 0x0a && x <= 0x0d) || (x >= 0x1c && x <= 0x1e) || x == 0x85 || x == 0x2028 ||
         x == 0x2029;
}

} // namespace

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  pieces out;
  size_t from = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const uint32_t point = next_point(text, at);
    if (!is_line_end(point))
      continue;
    if (point == '\r' && at < text.size() && text[at] == '\n')
      ++at;
    out.push_back(text.substr(from, (keep_ends ? at : end) - from));
    from = at;
  }
  if (from < text.size())
    out.push_back(text.substr(from));
  return out;
}

std::vector<std::string_view> split_words(std::string_view text, int64_t splits_max) {
  pieces out;
  text = strip_space(text, true, false);
  while (!text.empty()) {
    if (splits_max >= 0 && static_cast<int64_t>(out.size()) == splits_max) {
      out.push_back(text);
      break;
    }
    size_t end = 0;
    for (size_t at = 0; at < text.size(); end = at)
      if (is_space(next_point(text, at)))
        break;
    out.push_back(text.substr(0, end));
    text = strip_space(text.substr(end), true, false);
  }
  return out;
}

value join_text(runtime& rt, std::string_view separator, const value& items, bool strict) {
  std::string out;
  cursor source{rt, items};
  for (size_t i = 0; auto item = source.next(); ++i) {
    if (i > 0)
      out += separator;
    rt.charge(item->weight() / 2 + 1);
    if (item->is(kind::string))
      out += item->text();
    else if (strict)
      fail("sequence item " + std::to_string(i) + ": expected str instance, " + type_name(*item) +
           " found");
    else
      out += to_text(*item);
    if (out.size() > rt.allowed().output_bytes_max)
      break; // text() refuses it
  }
  return rt.text(std::move(out));
}

std::vector<named_method> split_methods() {
  return {{"split", split<false>},         {"rsplit", split<true>},
          {"partition", partition<false>}, {"rpartition", partition<true>},
          {"splitlines", splitlines},      {"join", join}};
}

value string_attribute(const value& of, std::string_view name) {
  static const auto methods = [] {
    std::unordered_map<std::string_view, string_method> out;
    for (const auto& part : {case_methods(), search_methods(), split_methods()})
      for (const auto& method : part)
        out.emplace(method.name, method.function);
    return out;
  }();
  const auto found = methods.find(name);
  if (found == methods.end())
    return {};
  return make_callable("built-in method " + std::string(name),
                       [function = found->second, of](runtime& rt, call_values& arguments) {
                         return function(rt, of, arguments);
                       });
}

} // namespace troupe::engine::jinja
