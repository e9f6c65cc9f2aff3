#include "engine/chat_template/runtime.hpp"

#include <algorithm>

#include "engine/chat_template/registry.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

std::string missing_attribute(const value& of, const value& name) {
  const std::string type = of.is(kind::none) ? "None" : type_name(of) + " object";
  if (name.is(kind::string))
    return "'" + type + "' has no attribute " + quote(name.text());
  return type + " has no element " + to_repr(name);
}

value hidden(const value& of, std::string_view name) {
  return value::undefined("access to attribute " + quote(name) + " of " + quote(type_name(of)) +
                              " object is unsafe.",
                          true);
}

/// obj[key] as Python does it; missing for a LookupError or TypeError.
value subscript(runtime& rt, const value& of, const value& key) {
  if (of.is(kind::dict)) {
    if (key.is(kind::sequence) || key.is(kind::dict)) // may be unhashable
      return key.is(flavor::tuple) && of.as<dict_object>().find(key)
                 ? *of.as<dict_object>().find(key)
                 : value{};
    const value* found = of.as<dict_object>().find(key);
    return found ? *found : value{};
  }
  if (!key.is_int())
    return {};
  int64_t at = key.as_int();
  if (of.is(kind::string)) {
    const auto& held = of.as<string_object>();
    const auto size = static_cast<int64_t>(held.length);
    at += at < 0 ? size : 0;
    if (at < 0 || at >= size)
      return {};
    if (held.ascii())
      return value::string(held.text.substr(static_cast<size_t>(at), 1));
    rt.charge(static_cast<uint64_t>(at) / 16);
    const size_t from = offset_of(held.text, static_cast<size_t>(at));
    size_t to = from;
    next_point(held.text, to);
    return value::string(held.text.substr(from, to - from));
  }
  if (!of.is(kind::sequence) || of.is(flavor::keys) || of.is(flavor::values) ||
      of.is(flavor::items))
    return {};
  const auto size = static_cast<int64_t>(of.items().size());
  at += at < 0 ? size : 0;
  return at < 0 || at >= size ? value{} : of.items()[static_cast<size_t>(at)];
}

} // namespace

runtime::runtime(const limits& allowed, std::function<std::time_t()> now, value context)
    : allowed_{allowed}, now_{std::move(now)}, context_{std::move(context)},
      steps_left_{allowed.steps_max} {}

runtime::~runtime() {
  for (const auto& held : captured_)
    held->slots.clear();
  for (const auto& held : kept_)
    if (auto* space = dynamic_cast<space_object*>(held.get())) {
      space->attributes.entries.clear();
      space->attributes.index.clear();
    }
}

void runtime::out_of_steps() const {
  fail_limit("the template takes more than " + std::to_string(allowed_.steps_max) + " steps");
}

void runtime::too_deep() {
  --depth_; // the guard that called is not there to do it
  fail_limit("macros, loops or expressions are nested too deep (more than " +
             std::to_string(allowed_.depth_max) + " levels)");
}

value runtime::text(std::string made, bool markup) {
  if (made.size() > allowed_.output_bytes_max)
    fail_limit("a string is longer than " + std::to_string(allowed_.output_bytes_max) + " bytes");
  charge(made.size() / 8 + 1);
  return value::string(std::move(made), markup);
}

value runtime::list(std::vector<value> items) {
  charge(items.size() * 2 + 1);
  return value::list(std::move(items));
}

value runtime::make_space(dict_object attributes) {
  charge(4);
  auto held = std::make_shared<space_object>();
  held->attributes = std::move(attributes);
  keep(object_ptr{held});
  return value::of(kind::space, std::move(held));
}

value runtime::python_attribute(const value& of, std::string_view name) {
  switch (of.type()) {
  case kind::string:
    return string_attribute(of, name);
  case kind::space: {
    const value* found = of.as<space_object>().attributes.find(name);
    return found ? *found : value{};
  }
  case kind::callable:
    return of.as<callable_object>().attribute(*this, name);
  default:
    return container_attribute(of, name);
  }
}

value runtime::attribute(const value& of, const value& name) {
  if (is_hidden_attribute(of, name.text()))
    return hidden(of, name.text());
  if (of.is(kind::undefined))
    fail_undefined(of);
  if (value found = python_attribute(of, name.text()); !found.is_missing())
    return found;
  if (value found = subscript(*this, of, name); !found.is_missing())
    return found;
  return value::undefined(missing_attribute(of, name));
}

value runtime::item(const value& of, const value& key) {
  if (of.is(kind::undefined))
    fail_undefined(of);
  if (value found = subscript(*this, of, key); !found.is_missing())
    return found;
  if (key.is(kind::string)) {
    if (is_hidden_attribute(of, key.text()))
      return hidden(of, key.text());
    if (value found = python_attribute(of, key.text()); !found.is_missing())
      return found;
  }
  return value::undefined(missing_attribute(of, key));
}

value runtime::call(const value& callee, call_values& arguments) {
  const nesting guard{*this};
  charge(2);
  if (callee.is(kind::undefined))
    fail_undefined(callee);
  if (!callee.is(kind::callable))
    fail("'" + type_name(callee) + "' object is not callable");
  return callee.as<callable_object>().call(*this, arguments);
}

value runtime::call_filter(const value& name, const value& subject, call_values& arguments) {
  const nesting guard{*this};
  const filter_fn function = name.is(kind::string) ? find_filter(name.text()) : nullptr;
  if (!function)
    fail("No filter named " + to_repr(name) + ".");
  return function(*this, subject, arguments);
}

value runtime::call_test(const value& name, const value& subject, call_values& arguments) {
  const nesting guard{*this};
  const filter_fn function = name.is(kind::string) ? find_test(name.text()) : nullptr;
  if (!function)
    fail("No test named " + to_repr(name) + ".");
  return function(*this, subject, arguments);
}

cursor::cursor(runtime& rt, value source) : rt_{&rt}, source_{std::move(source)} {
  if (!is_iterable(source_))
    fail("'" + type_name(source_) + "' object is not iterable");
}

std::optional<value> cursor::next() {
  rt_->charge(1);
  switch (source_.type()) {
  case kind::sequence: {
    const auto& items = source_.items();
    return at_ < items.size() ? std::optional{items[at_++]} : std::nullopt;
  }
  case kind::dict: {
    const auto& entries = source_.as<dict_object>().entries;
    return at_ < entries.size() ? std::optional{entries[at_++].first} : std::nullopt;
  }
  case kind::string: {
    const auto& text = source_.text();
    if (at_ >= text.size())
      return std::nullopt;
    const size_t from = at_;
    next_point(text, at_);
    return value::string(text.substr(from, at_ - from));
  }
  case kind::iterator: {
    const runtime::nesting guard{*rt_};
    return source_.as<iterator_object>().next();
  }
  default:
    return std::nullopt; // undefined
  }
}

std::vector<value> collect(runtime& rt, const value& source) {
  std::vector<value> out;
  cursor items{rt, source};
  while (auto next = items.next()) {
    rt.charge(1);
    out.push_back(std::move(*next));
  }
  return out;
}

bool is_iterable(const value& x) {
  return x.is(kind::sequence) || x.is(kind::dict) || x.is(kind::string) || x.is(kind::iterator) ||
         x.is(kind::undefined);
}

int64_t length_of(const value& x) {
  switch (x.type()) {
  case kind::undefined:
    return 0;
  case kind::string:
    return static_cast<int64_t>(x.as<string_object>().length);
  case kind::sequence:
    return static_cast<int64_t>(x.items().size());
  case kind::dict:
    return static_cast<int64_t>(x.as<dict_object>().entries.size());
  case kind::callable:
    if (const auto length = x.as<callable_object>().length())
      return *length;
    [[fallthrough]];
  default:
    fail("object of type '" + type_name(x) + "' has no len()");
  }
}

bound_arguments bind_arguments(call_values& given, std::string_view function,
                               std::initializer_list<std::string_view> names, size_t required,
                               bool by_name) {
  const std::string who = std::string(function) + "()";
  bound_arguments out;
  if (given.positional.size() > names.size())
    fail(who + " takes at most " + std::to_string(names.size()) + " arguments (" +
         std::to_string(given.positional.size()) + " given)");
  std::copy(given.positional.begin(), given.positional.end(), out.begin());
  for (const auto& [name, x] : given.named) {
    const auto* at = std::find(names.begin(), names.end(), name);
    if (at == names.end() || !by_name)
      fail(who + " got an unexpected keyword argument '" + name + "'");
    auto& place = out[static_cast<size_t>(at - names.begin())];
    if (!place.is_missing())
      fail(who + " got multiple values for argument '" + name + "'");
    place = x;
  }
  for (size_t i = 0; i < required; ++i)
    if (out[i].is_missing())
      fail(who + " missing required argument '" + std::string(names.begin()[i]) + "'");
  return out;
}

int64_t to_integer(const value& x, std::string_view what) {
  if (x.is(kind::undefined))
    fail_undefined(x);
  if (!x.is_int())
    fail(std::string(what) + ": '" + type_name(x) + "' object cannot be interpreted as an integer");
  return x.as_int();
}

const std::string& to_string_argument(const value& x, std::string_view what) {
  if (!x.is(kind::string))
    fail(std::string(what) + " must be str, not " + type_name(x));
  return x.text();
}

} // namespace troupe::engine::jinja
