// Methods and attributes of dicts, lists, tuples and numbers, and what the sandbox hides.
#include <algorithm>
#include <cmath>

#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

namespace {

template <class Function>
value method(std::string_view name, const value& self, Function function) {
  return make_callable("built-in method " + std::string(name),
                       [self, function](runtime& rt, call_values& arguments) {
                         return function(rt, self, arguments);
                       });
}

value view(runtime& rt, const value& self, flavor type) {
  const auto& entries = self.as<dict_object>().entries;
  std::vector<value> items;
  items.reserve(entries.size());
  rt.charge(entries.size() * (type == flavor::items ? 4 : 2) + 1);
  for (const auto& [key, x] : entries)
    items.push_back(type == flavor::keys     ? key
                    : type == flavor::values ? x
                                             : value::tuple({key, x}));
  return value::sequence(type, std::move(items));
}

value dict_get(runtime&, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "get", {"key", "default"}, 1, false);
  const value* found = self.as<dict_object>().find(bound[0]);
  return found ? *found : bound[1].is_missing() ? value::none() : bound[1];
}

value dict_attribute(const value& of, std::string_view name) {
  if (name == "items" || name == "keys" || name == "values") {
    const flavor type = name == "items"  ? flavor::items
                        : name == "keys" ? flavor::keys
                                         : flavor::values;
    return method(name, of, [type](runtime& rt, const value& self, call_values& arguments) {
      bind_arguments(arguments, "dict method", {});
      return view(rt, self, type);
    });
  }
  if (name == "get")
    return method(name, of, dict_get);
  if (name == "copy")
    return method(name, of, [](runtime&, const value& self, call_values& arguments) {
      bind_arguments(arguments, "copy", {});
      return self; // nothing can change either of them
    });
  if (name == "fromkeys")
    return method(name, of, [](runtime& rt, const value&, call_values& arguments) {
      const auto bound = bind_arguments(arguments, "fromkeys", {"iterable", "value"}, 1, false);
      std::vector<std::pair<value, value>> entries;
      for (auto& key : collect(rt, bound[0]))
        entries.emplace_back(std::move(key), bound[1].is_missing() ? value::none() : bound[1]);
      return make_dict(std::move(entries));
    });
  return {};
}

value sequence_count(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "count", {"value"}, 1, false);
  rt.charge(self.weight());
  return value::integer(std::count_if(self.items().begin(), self.items().end(),
                                      [&](const value& x) { return equal(x, bound[0]); }));
}

value sequence_index(runtime& rt, const value& self, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "index", {"value", "start", "stop"}, 1, false);
  rt.charge(self.weight());
  const auto& items = self.items();
  const auto size = static_cast<int64_t>(items.size());
  const auto limit = [&](const value& x, int64_t absent) {
    if (x.is_missing())
      return absent;
    const int64_t at = to_integer(x, "index()");
    return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
  };
  for (int64_t i = limit(bound[1], 0); i < limit(bound[2], size); ++i)
    if (equal(items[static_cast<size_t>(i)], bound[0]))
      return value::integer(i);
  fail(to_repr(bound[0]) + " is not in list");
}

value sequence_attribute(const value& of, std::string_view name) {
  const flavor type = of.as<sequence_object>().type;
  if (type == flavor::group && (name == "grouper" || name == "list"))
    return of.items()[name == "list" ? 1 : 0];
  if (type == flavor::keys || type == flavor::values || type == flavor::items)
    return {};
  if (type == flavor::range && (name == "start" || name == "stop" || name == "step")) {
    const auto& range = of.as<sequence_object>();
    return value::integer(name == "start" ? range.start : name == "stop" ? range.stop : range.step);
  }
  if (name == "count")
    return method(name, of, sequence_count);
  if (name == "index")
    return method(name, of, sequence_index);
  if (name == "copy" && type == flavor::list)
    return method(name, of, [](runtime&, const value& self, call_values& arguments) {
      bind_arguments(arguments, "copy", {});
      return self;
    });
  return {};
}

value number_attribute(const value& of, std::string_view name) {
  const bool whole = of.is_int();
  if (name == "real")
    return whole ? value::integer(of.as_int()) : of;
  if (name == "imag")
    return whole ? value::integer(0) : value::real(0);
  if (name == "numerator" && whole)
    return value::integer(of.as_int());
  if (name == "denominator" && whole)
    return value::integer(1);
  if (name == "bit_length" && whole)
    return method(name, of, [](runtime&, const value& self, call_values& arguments) {
      bind_arguments(arguments, "bit_length", {});
      const int64_t x = self.as_int();
      const uint64_t size = x < 0 ? 0 - static_cast<uint64_t>(x) : static_cast<uint64_t>(x);
      return value::integer(size == 0 ? 0 : 64 - __builtin_clzll(size));
    });
  if (name == "conjugate")
    return method(name, of, [](runtime&, const value& self, call_values&) { return plus(self); });
  if (name == "is_integer" && !whole)
    return method(name, of, [](runtime&, const value& self, call_values& arguments) {
      bind_arguments(arguments, "is_integer", {});
      const double x = self.as_real();
      return value::boolean(std::isfinite(x) && std::floor(x) == x);
    });
  return {};
}

bool any_of(std::initializer_list<std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

} // namespace

value container_attribute(const value& of, std::string_view name) {
  switch (of.type()) {
  case kind::dict:
    return dict_attribute(of, name);
  case kind::sequence:
    return sequence_attribute(of, name);
  case kind::boolean:
  case kind::integer:
  case kind::real:
    return number_attribute(of, name);
  default:
    return {};
  }
}

bool is_hidden_attribute(const value& of, std::string_view name) {
  if (name.starts_with("__") && name.ends_with("__"))
    return any_of({"__class__",        "__contains__",
                   "__delattr__",      "__dir__",
                   "__doc__",          "__eq__",
                   "__format__",       "__ge__",
                   "__getattribute__", "__getitem__",
                   "__gt__",           "__hash__",
                   "__init__",         "__init_subclass__",
                   "__iter__",         "__le__",
                   "__len__",          "__lt__",
                   "__ne__",           "__new__",
                   "__reduce__",       "__reduce_ex__",
                   "__repr__",         "__setattr__",
                   "__sizeof__",       "__str__",
                   "__subclasshook__"},
                  name);
  if (of.is(kind::dict))
    return any_of({"clear", "pop", "popitem", "setdefault", "update"}, name);
  if (of.is(flavor::list))
    return any_of({"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"},
                  name);
  return false;
}

} // namespace troupe::engine::jinja
