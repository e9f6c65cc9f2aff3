#include "engine/chat_template/value.hpp"

#include <algorithm>

#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

constexpr size_t indexed_from = 12;

void measure(object& held, const std::vector<value>& items) {
  uint32_t depth = 0;
  for (const auto& item : items) {
    depth = std::max(depth, item.depth());
    held.weight = heavier(held.weight, item.weight());
  }
  held.depth = one_deeper(depth);
}

bool equal_items(const std::vector<value>& a, const std::vector<value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

bool equal_dicts(const dict_object& a, const dict_object& b) {
  if (a.entries.size() != b.entries.size())
    return false;
  for (const auto& [key, item] : a.entries) {
    const value* other = b.find(key);
    if (!other || !equal(item, *other))
      return false;
  }
  return true;
}

bool equal_sequences(const sequence_object& a, const sequence_object& b) {
  const auto plain = [](flavor x) { return x == flavor::group ? flavor::tuple : x; };
  if (plain(a.type) != plain(b.type) || a.type == flavor::values)
    return &a == &b;
  if (a.type == flavor::keys || a.type == flavor::items) { // they compare as sets
    const auto holds = [&](const value& x) {
      return std::any_of(b.items.begin(), b.items.end(),
                         [&](const value& y) { return equal(x, y); });
    };
    return a.items.size() == b.items.size() && std::all_of(a.items.begin(), a.items.end(), holds);
  }
  return equal_items(a.items, b.items);
}

struct native_callable : callable_object {
  std::function<value(runtime&, call_values&)> body;
  value call(runtime& rt, call_values& arguments) override { return body(rt, arguments); }
};

} // namespace

uint32_t one_deeper(uint32_t depth) {
  if (depth >= nesting_max)
    fail_limit("values are nested more than " + std::to_string(nesting_max) + " deep");
  return depth + 1;
}

uint64_t heavier(uint64_t weight, uint64_t by) {
  if (weight + by > weight_max)
    fail_limit("a value is too large");
  return weight + by;
}

value value::undefined(std::string why, bool unsafe) {
  auto held = std::make_shared<undefined_object>();
  held->why = std::move(why);
  held->unsafe = unsafe;
  return of(kind::undefined, std::move(held));
}

value value::boolean(bool x) {
  value out{kind::boolean};
  out.number_.i = x ? 1 : 0;
  return out;
}

value value::integer(int64_t x) {
  value out{kind::integer};
  out.number_.i = x;
  return out;
}

value value::real(double x) {
  value out{kind::real};
  out.number_.d = x;
  return out;
}

value value::string(std::string text, bool markup) {
  auto held = std::make_shared<string_object>();
  held->length = count_points(text);
  held->weight = heavier(1, text.size() / 16);
  held->text = std::move(text);
  held->markup = markup;
  return of(kind::string, std::move(held));
}

value value::sequence(flavor type, std::vector<value> items) {
  auto held = std::make_shared<sequence_object>();
  measure(*held, items);
  held->type = type;
  held->items = std::move(items);
  return of(kind::sequence, std::move(held));
}

value value::of(kind type, object_ptr held) {
  value out{type};
  out.object_ = std::move(held);
  return out;
}

bool value::is(flavor type) const {
  return kind_ == kind::sequence && as<sequence_object>().type == type;
}

const std::string& value::text() const { return as<string_object>().text; }
const std::vector<value>& value::items() const { return as<sequence_object>().items; }

value make_callable(std::string name, std::function<value(runtime&, call_values&)> call) {
  auto held = std::make_shared<native_callable>();
  held->name = std::move(name);
  held->body = std::move(call);
  return value::of(kind::callable, std::move(held));
}

value make_iterator(uint32_t source_depth, std::function<std::optional<value>()> next) {
  auto held = std::make_shared<iterator_object>();
  held->depth = one_deeper(source_depth);
  held->next = std::move(next);
  return value::of(kind::iterator, std::move(held));
}

value make_range(int64_t start, int64_t stop, int64_t step, size_t count) {
  std::vector<value> items;
  items.reserve(count);
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    items.push_back(value::integer(start + i * step));
  value out = value::sequence(flavor::range, std::move(items));
  auto& held = out.as<sequence_object>();
  held.start = start;
  held.stop = stop;
  held.step = step;
  return out;
}

value make_dict(std::vector<std::pair<value, value>> entries) {
  auto held = std::make_shared<dict_object>();
  held->entries.reserve(entries.size());
  for (auto& [key, item] : entries)
    held->set(std::move(key), std::move(item));
  uint32_t depth = 0;
  for (const auto& [key, item] : held->entries) {
    depth = std::max({depth, key.depth(), item.depth()});
    held->weight = heavier(held->weight, key.weight() + item.weight());
  }
  held->depth = one_deeper(depth);
  return value::of(kind::dict, std::move(held));
}

value call_values::take(std::string_view name) {
  for (auto at = named.begin(); at != named.end(); ++at)
    if (at->first == name) {
      value out = std::move(at->second);
      named.erase(at);
      return out;
    }
  return {};
}

const value* dict_object::find(const value& key) const {
  const size_t hash = hash_of(key);
  if (index.empty()) {
    for (const auto& [other, item] : entries)
      if (equal(other, key))
        return &item;
    return nullptr;
  }
  const auto [from, to] = index.equal_range(hash);
  for (auto at = from; at != to; ++at)
    if (equal(entries[at->second].first, key))
      return &entries[at->second].second;
  return nullptr;
}

const value* dict_object::find(std::string_view key) const {
  const auto matches = [&](const value& x) { return x.is(kind::string) && x.text() == key; };
  if (index.empty()) {
    for (const auto& [other, item] : entries)
      if (matches(other))
        return &item;
    return nullptr;
  }
  const auto [from, to] = index.equal_range(std::hash<std::string_view>{}(key));
  for (auto at = from; at != to; ++at)
    if (matches(entries[at->second].first))
      return &entries[at->second].second;
  return nullptr;
}

void dict_object::set(value key, value item) {
  if (const value* old = find(key)) {
    *const_cast<value*>(old) = std::move(item); // ours: find() is const for its readers only
    return;
  }
  entries.emplace_back(std::move(key), std::move(item));
  if (entries.size() == indexed_from) {
    for (size_t i = 0; i < entries.size(); ++i)
      index.emplace(hash_of(entries[i].first), i);
  } else if (entries.size() > indexed_from) {
    index.emplace(hash_of(entries.back().first), entries.size() - 1);
  }
}

void dict_object::erase(std::string_view key) {
  std::erase_if(entries, [&](const auto& entry) {
    return entry.first.is(kind::string) && entry.first.text() == key;
  });
  index.clear();
  if (entries.size() >= indexed_from)
    for (size_t i = 0; i < entries.size(); ++i)
      index.emplace(hash_of(entries[i].first), i);
}

bool truthy(const value& x) {
  switch (x.type()) {
  case kind::missing:
  case kind::undefined:
  case kind::none:
    return false;
  case kind::boolean:
  case kind::integer:
    return x.as_int() != 0;
  case kind::real:
    return x.as_real() != 0;
  case kind::string:
    return !x.text().empty();
  case kind::sequence:
    return !x.items().empty();
  case kind::dict:
    return !x.as<dict_object>().entries.empty();
  case kind::callable:
    return x.as<callable_object>().length() != 0; // nullopt is not 0 either
  case kind::iterator:
  case kind::space:
    return true;
  }
  return true;
}

bool equal(const value& a, const value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_int() && b.is_int())
      return a.as_int() == b.as_int();
    return a.as_real() == b.as_real();
  }
  if (a.type() != b.type())
    return false;
  switch (a.type()) {
  case kind::missing:
  case kind::undefined:
  case kind::none:
    return true;
  case kind::string:
    return a.text() == b.text();
  case kind::sequence:
    return equal_sequences(a.as<sequence_object>(), b.as<sequence_object>());
  case kind::dict:
    return equal_dicts(a.as<dict_object>(), b.as<dict_object>());
  default:
    return a.held() == b.held();
  }
}

size_t hash_of(const value& x) {
  switch (x.type()) {
  case kind::boolean:
  case kind::integer:
    return std::hash<double>{}(static_cast<double>(x.as_int()));
  case kind::real:
    return std::hash<double>{}(x.as_real());
  case kind::string:
    return std::hash<std::string_view>{}(x.text());
  case kind::dict:
    fail("unhashable type: 'dict'");
  case kind::sequence: {
    const auto& sequence = x.as<sequence_object>();
    if (sequence.type == flavor::list || sequence.type == flavor::keys ||
        sequence.type == flavor::items)
      fail("unhashable type: '" + type_name(x) + "'");
    size_t hash = 0x345678;
    for (const auto& item : sequence.items)
      hash = hash * 1000003 ^ hash_of(item);
    return hash;
  }
  case kind::iterator:
  case kind::space:
  case kind::callable:
    return std::hash<const object*>{}(x.held());
  default:
    return static_cast<size_t>(x.type());
  }
}

std::string type_name(const value& x) {
  static constexpr const char* sequences[] = {"list",      "tuple",       "tuple",     "range",
                                              "dict_keys", "dict_values", "dict_items"};
  switch (x.type()) {
  case kind::missing:
  case kind::undefined:
    return "Undefined";
  case kind::none:
    return "NoneType";
  case kind::boolean:
    return "bool";
  case kind::integer:
    return "int";
  case kind::real:
    return "float";
  case kind::string:
    return x.as<string_object>().markup ? "Markup" : "str";
  case kind::sequence:
    return sequences[static_cast<size_t>(x.as<sequence_object>().type)];
  case kind::dict:
    return "dict";
  case kind::iterator:
    return "generator";
  case kind::space:
    return "Namespace";
  case kind::callable:
    return "function";
  }
  return "object";
}

void fail_undefined(const value& x) {
  const auto& held = x.as<undefined_object>();
  fail(held.why);
}

} // namespace troupe::engine::jinja
