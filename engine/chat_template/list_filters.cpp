// Filters about sequences and mappings as wholes.
#include <algorithm>
#include <unordered_map>

#include "engine/chat_template/filters.hpp"
#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

value length(runtime&, const value& x, call_values& arguments) {
  bind_arguments(arguments, "length", {});
  return value::integer(length_of(x));
}

value first(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "first", {});
  cursor items{rt, x};
  auto item = items.next();
  return item ? *item : value::undefined("No first item, sequence was empty.");
}

/// The items of anything that Python's reversed() takes, last first.
std::vector<value> reversed(runtime& rt, const value& x) {
  if (x.is(kind::iterator) || !is_iterable(x))
    fail("'" + type_name(x) + "' object is not reversible");
  auto items = collect(rt, x);
  std::reverse(items.begin(), items.end());
  return items;
}

value last(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "last", {});
  if (x.is(kind::sequence) && !x.items().empty())
    return x.items().back();
  const auto items = reversed(rt, x);
  return items.empty() ? value::undefined("No last item, sequence was empty.") : items.front();
}

value iterate(std::vector<value> items) {
  uint32_t depth = 0;
  for (const auto& item : items)
    depth = std::max(depth, item.depth());
  return make_iterator(depth, [items = std::move(items), at = size_t{0}]() mutable {
    return at < items.size() ? std::optional{items[at++]} : std::nullopt;
  });
}

value reverse(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "reverse", {});
  if (x.is(kind::string)) {
    std::string out;
    const auto points = split_points(x.text());
    for (auto point = points.rbegin(); point != points.rend(); ++point)
      out += *point;
    rt.charge(points.size());
    return rt.text(std::move(out));
  }
  if (!is_iterable(x))
    fail("argument must be iterable");
  auto items = collect(rt, x);
  std::reverse(items.begin(), items.end());
  return x.is(kind::iterator) ? rt.list(std::move(items)) : iterate(std::move(items));
}

value to_list(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "list", {});
  return rt.list(collect(rt, x));
}

value fallback(runtime&, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "default", {"default_value", "boolean"});
  if (x.is(kind::undefined) || (flag(bound[1]) && !truthy(x)))
    return bound[0].is_missing() ? value::string({}) : bound[0];
  return x;
}

using keyed = std::pair<value, value>; ///< what to sort by, and the item

void sort_by_key(runtime& rt, std::vector<keyed>& items, bool backwards) {
  rt.charge(items.size() * 16);
  std::stable_sort(items.begin(), items.end(), [&](const keyed& a, const keyed& b) {
    rt.charge(std::min(a.first.weight(), b.first.weight()));
    return backwards ? less(b.first, a.first) : less(a.first, b.first);
  });
}

std::vector<value> values_of(std::vector<keyed>& items) {
  std::vector<value> out;
  out.reserve(items.size());
  for (auto& item : items)
    out.push_back(std::move(item.second));
  return out;
}

value sort(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  std::vector<attribute_path> paths;
  if (bound[2].is(kind::string)) {
    std::string_view rest = bound[2].text();
    for (size_t comma = 0; comma != rest.npos;) {
      comma = rest.find(',');
      paths.emplace_back(value::string(std::string(rest.substr(0, comma))));
      rest.remove_prefix(comma == rest.npos ? rest.size() : comma + 1);
    }
  } else {
    paths.emplace_back(bound[2]);
  }
  std::vector<keyed> items;
  cursor source{rt, x};
  while (auto item = source.next()) {
    std::vector<value> key;
    for (const auto& path : paths) {
      value part = path.of(rt, *item);
      key.push_back(flag(bound[1]) ? std::move(part) : without_case(part));
    }
    items.emplace_back(value::list(std::move(key)), std::move(*item));
  }
  sort_by_key(rt, items, flag(bound[0]));
  return rt.list(values_of(items));
}

value unique(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "unique", {"case_sensitive", "attribute"});
  const bool exact = flag(bound[0]);
  auto path = std::make_shared<attribute_path>(bound[1]);
  auto source = std::make_shared<cursor>(rt, x);
  auto seen = std::make_shared<dict_object>();
  return make_iterator(x.depth(), [&rt, exact, path, source, seen]() -> std::optional<value> {
    while (auto item = source->next()) {
      value key = path->of(rt, *item);
      if (!exact)
        key = without_case(key);
      if (seen->find(key))
        continue;
      seen->set(std::move(key), value::none());
      return item;
    }
    return std::nullopt;
  });
}

template <bool Max>
value extreme(runtime& rt, const value& x, call_values& arguments) {
  const auto bound =
      bind_arguments(arguments, Max ? "max" : "min", {"case_sensitive", "attribute"});
  const attribute_path path{bound[1]};
  std::optional<keyed> best;
  cursor items{rt, x};
  while (auto item = items.next()) {
    value key = path.of(rt, *item);
    if (!flag(bound[0]))
      key = without_case(key);
    if (!best || (Max ? less(best->first, key, ">") : less(key, best->first)))
      best.emplace(std::move(key), std::move(*item));
  }
  return best ? best->second : value::undefined("No aggregated item, sequence was empty.");
}

value sum(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "sum", {"attribute", "start"});
  const attribute_path path{bound[0]};
  value total = bound[1].is_missing() ? value::integer(0) : bound[1];
  if (total.is(kind::string))
    fail("sum() can't sum strings [use ''.join(seq) instead]");
  cursor items{rt, x};
  while (auto item = items.next())
    total = arithmetic(rt, expr_kind::add, total, path.of(rt, *item));
  return total;
}

value items(runtime& rt, const value& x, call_values& arguments) {
  bind_arguments(arguments, "items", {});
  if (x.is(kind::undefined))
    return iterate({});
  if (!x.is(kind::dict))
    fail("Can only get item pairs from a mapping.");
  std::vector<value> out;
  rt.charge(x.as<dict_object>().entries.size() * 4);
  for (const auto& [key, item] : x.as<dict_object>().entries)
    out.push_back(value::tuple({key, item}));
  return iterate(std::move(out));
}

value sort_dict(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = bound[1].is_missing() ? "key" : to_text(bound[1]);
  if (by != "key" && by != "value")
    fail("You can only sort by either \"key\" or \"value\"");
  if (x.is(kind::undefined))
    fail_undefined(x);
  if (!x.is(kind::dict))
    fail("'" + type_name(x) + "' object has no attribute 'items'");
  std::vector<keyed> pairs;
  for (const auto& [key, item] : x.as<dict_object>().entries) {
    const value& chosen = by == "key" ? key : item;
    pairs.emplace_back(flag(bound[0]) ? chosen : without_case(chosen), value::tuple({key, item}));
  }
  sort_by_key(rt, pairs, flag(bound[2]));
  return rt.list(values_of(pairs));
}

value batch(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "batch", {"linecount", "fill_with"}, 1);
  const int64_t count = to_integer(bound[0], "batch");
  std::vector<value> out, line;
  cursor items{rt, x};
  while (auto item = items.next()) {
    if (static_cast<int64_t>(line.size()) == count) {
      out.push_back(rt.list(std::move(line)));
      line.clear();
    }
    line.push_back(std::move(*item));
  }
  if (!line.empty()) {
    const bool fill = !bound[1].is_missing() && !bound[1].is(kind::none);
    while (fill && static_cast<int64_t>(line.size()) < count) {
      rt.charge(2);
      line.push_back(bound[1]);
    }
    out.push_back(rt.list(std::move(line)));
  }
  return iterate(std::move(out));
}

value slices(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "slice", {"slices", "fill_with"}, 1);
  const int64_t count = to_integer(bound[0], "slice");
  const auto all = collect(rt, x);
  if (count == 0)
    fail("integer division or modulo by zero");
  const auto size = static_cast<int64_t>(all.size());
  const bool fill = !bound[1].is_missing() && !bound[1].is(kind::none);
  std::vector<value> out;
  auto at = all.begin();
  for (int64_t i = 0; i < count; ++i) {
    const bool extra = i < size % count;
    const auto end = at + size / count + (extra ? 1 : 0);
    std::vector<value> part(at, end);
    at = end;
    if (fill && !extra)
      part.push_back(bound[1]);
    out.push_back(rt.list(std::move(part)));
  }
  return iterate(std::move(out));
}

value group(runtime& rt, const value& x, call_values& arguments) {
  const auto bound =
      bind_arguments(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const attribute_path path{bound[0], bound[1].is(kind::none) ? value{} : bound[1]};
  const bool exact = flag(bound[2]);
  std::vector<keyed> pairs;
  cursor source{rt, x};
  while (auto item = source.next()) {
    value key = path.of(rt, *item);
    pairs.emplace_back(exact ? std::move(key) : without_case(key), std::move(*item));
  }
  sort_by_key(rt, pairs, false);
  std::vector<value> out;
  for (auto at = pairs.begin(); at != pairs.end();) {
    const auto end = std::find_if(
        at, pairs.end(), [&](const keyed& other) { return !equal(other.first, at->first); });
    std::vector<value> members;
    for (auto member = at; member != end; ++member)
      members.push_back(member->second);
    value name = exact ? at->first : path.of(rt, members.front());
    out.push_back(value::sequence(flavor::group, {std::move(name), rt.list(std::move(members))}));
    at = end;
  }
  return rt.list(std::move(out));
}

value attr(runtime& rt, const value& x, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "attr", {"name"}, 1);
  const auto& name = to_string_argument(bound[0], "attr: the name");
  if (!x.is(kind::undefined) && !is_hidden_attribute(x, name) &&
      rt.python_attribute(x, name).is_missing())
    return value::undefined("'" + type_name(x) + " object' has no attribute " + quote(name));
  return rt.attribute(x, bound[0]);
}

} // namespace

attribute_path::attribute_path(const value& path, value fallback) : fallback_{std::move(fallback)} {
  if (path.is_missing() || path.is(kind::none))
    return;
  if (!path.is(kind::string)) {
    steps_.push_back(path);
    return;
  }
  std::string_view rest = path.text();
  for (size_t dot = 0; dot != rest.npos;) {
    dot = rest.find('.');
    const auto step = rest.substr(0, dot);
    rest.remove_prefix(dot == rest.npos ? rest.size() : dot + 1);
    if (!step.empty() && step.size() < 18 && step.find_first_not_of("0123456789") == step.npos)
      steps_.push_back(value::integer(std::stoll(std::string(step))));
    else
      steps_.push_back(value::string(std::string(step)));
  }
}

value attribute_path::of(runtime& rt, value x) const {
  rt.charge(steps_.size());
  for (const auto& step : steps_) {
    x = rt.item(x, step);
    if (x.is(kind::undefined) && !fallback_.is_missing())
      x = fallback_;
  }
  return x;
}

value without_case(const value& x) {
  return x.is(kind::string) ? value::string(lower(x.text())) : x;
}

std::vector<named_function> list_filters() {
  return {{"length", length},   {"count", length},  {"first", first},        {"last", last},
          {"reverse", reverse}, {"list", to_list},  {"default", fallback},   {"d", fallback},
          {"sort", sort},       {"unique", unique}, {"min", extreme<false>}, {"max", extreme<true>},
          {"sum", sum},         {"items", items},   {"dictsort", sort_dict}, {"batch", batch},
          {"slice", slices},    {"groupby", group}, {"attr", attr}};
}

} // namespace troupe::engine::jinja
