// Filters that run another filter or a test over a sequence, lazily, and the table of all filters.
#include <unordered_map>

#include "engine/chat_template/filters.hpp"

namespace troupe::engine::jinja {

namespace {

/// What one of these filters was called with. Nothing happens before the first item is asked for,
/// so a template sees errors in the order in which Python would raise them.
struct pending {
  value source;
  call_values arguments;
  std::unique_ptr<cursor> items;
  std::function<value(const value&)> apply;
};

void start(runtime& rt, pending& work, const std::function<void()>& prepare) {
  if (work.items || !truthy(work.source))
    return;
  prepare();
  work.items = std::make_unique<cursor>(rt, work.source);
}

void prepare_map(runtime& rt, pending& work) {
  auto& arguments = work.arguments;
  value attribute = arguments.positional.empty() ? arguments.take("attribute") : value{};
  if (!attribute.is_missing()) {
    value fallback = arguments.take("default");
    if (!arguments.named.empty())
      fail("Unexpected keyword argument '" + arguments.named.front().first + "'");
    if (fallback.is(kind::none))
      fallback = {};
    work.apply = [&rt, path = attribute_path{attribute, fallback}](const value& item) {
      return path.of(rt, item);
    };
    return;
  }
  if (arguments.positional.empty())
    fail("map requires a filter argument");
  const value name = arguments.positional.front();
  arguments.positional.erase(arguments.positional.begin());
  work.apply = [&rt, name, rest = arguments](const value& item) {
    call_values again = rest;
    return rt.call_filter(name, item, again);
  };
}

value map(runtime& rt, const value& x, call_values& arguments) {
  auto work = std::make_shared<pending>();
  work->source = x;
  work->arguments = std::move(arguments);
  return make_iterator(x.depth(), [&rt, work]() -> std::optional<value> {
    start(rt, *work, [&] { prepare_map(rt, *work); });
    auto item = work->items ? work->items->next() : std::nullopt;
    if (item)
      item = work->apply(*item);
    return item;
  });
}

void prepare_select(runtime& rt, pending& work, bool by_attribute) {
  auto& given = work.arguments.positional;
  value attribute;
  if (by_attribute) {
    if (given.empty())
      fail("Missing parameter for attribute name");
    attribute = given.front();
    given.erase(given.begin());
  }
  const attribute_path path{attribute};
  if (given.empty()) {
    work.apply = [&rt, path](const value& item) { return path.of(rt, item); };
    return;
  }
  const value name = given.front();
  given.erase(given.begin());
  work.apply = [&rt, path, name, rest = work.arguments](const value& item) {
    call_values again = rest;
    return rt.call_test(name, path.of(rt, item), again);
  };
}

template <bool Keep, bool ByAttribute>
value select(runtime& rt, const value& x, call_values& arguments) {
  auto work = std::make_shared<pending>();
  work->source = x;
  work->arguments = std::move(arguments);
  return make_iterator(x.depth(), [&rt, work]() -> std::optional<value> {
    start(rt, *work, [&] { prepare_select(rt, *work, ByAttribute); });
    while (auto item = work->items ? work->items->next() : std::nullopt)
      if (truthy(work->apply(*item)) == Keep)
        return item;
    return std::nullopt;
  });
}

using table = std::unordered_map<std::string_view, filter_fn>;

table make_table(std::initializer_list<std::vector<named_function>> parts) {
  table out;
  for (const auto& part : parts)
    for (const auto& [name, function] : part)
      out.emplace(name, function);
  return out;
}

filter_fn find(const table& all, std::string_view name) {
  const auto found = all.find(name);
  return found == all.end() ? nullptr : found->second;
}

} // namespace

std::vector<named_function> select_filters() {
  return {{"map", map},
          {"select", select<true, false>},
          {"reject", select<false, false>},
          {"selectattr", select<true, true>},
          {"rejectattr", select<false, true>}};
}

filter_fn find_filter(std::string_view name) {
  static const table all =
      make_table({text_filters(), number_filters(), list_filters(), select_filters()});
  return find(all, name);
}

filter_fn find_test(std::string_view name) {
  static const table all = make_table({all_tests()});
  return find(all, name);
}

} // namespace troupe::engine::jinja
