// The functions that every template can call.
#include <algorithm>

#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

namespace {

value range(runtime& rt, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "range", {"start", "stop", "step"}, 1, false);
  const bool one = bound[1].is_missing();
  const int64_t start = one ? 0 : to_integer(bound[0], "range()");
  const int64_t stop = to_integer(one ? bound[0] : bound[1], "range()");
  const int64_t step = bound[2].is_missing() ? 1 : to_integer(bound[2], "range()");
  if (step == 0)
    fail("range() arg 3 must not be zero");
  // Unsigned arithmetic, because the distance of two 64 bit numbers need not fit in one.
  const auto low = static_cast<uint64_t>(step > 0 ? start : stop);
  const auto high = static_cast<uint64_t>(step > 0 ? stop : start);
  const bool empty = step > 0 ? start >= stop : start <= stop;
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const uint64_t count = empty ? 0 : (high - low - 1) / stride + 1;
  if (count > static_cast<uint64_t>(rt.allowed().range_max))
    fail_limit("Range too big. The sandbox blocks ranges larger than MAX_RANGE (" +
               std::to_string(rt.allowed().range_max) + ").");
  rt.charge(count * 2);
  return make_range(start, stop, step, count);
}

/// What dict(...) would hold.
dict_object to_dict(runtime& rt, call_values& arguments, const char* function) {
  if (arguments.positional.size() > 1)
    fail(std::string(function) + " expected at most 1 argument, got " +
         std::to_string(arguments.positional.size()));
  dict_object out;
  if (!arguments.positional.empty()) {
    const value& source = arguments.positional[0];
    if (source.is(kind::dict)) {
      out.entries = source.as<dict_object>().entries;
      out.index = source.as<dict_object>().index;
      rt.charge(out.entries.size() * 4);
    } else {
      cursor pairs{rt, source};
      while (auto pair = pairs.next()) {
        auto parts = collect(rt, *pair);
        if (parts.size() != 2)
          fail("dictionary update sequence element has length " + std::to_string(parts.size()) +
               "; 2 is required");
        out.set(std::move(parts[0]), std::move(parts[1]));
      }
    }
  }
  for (auto& [name, x] : arguments.named)
    out.set(value::string(name), std::move(x));
  return out;
}

value make_namespace(runtime& rt, call_values& arguments) {
  dict_object attributes = to_dict(rt, arguments, "namespace");
  for (const auto& [name, x] : attributes.entries)
    if (name.is(kind::string) && name.text().starts_with('_'))
      fail("cannot store underscore-prefixed attributes on a namespace, but got " +
           quote(name.text()));
  return rt.make_space(std::move(attributes));
}

value make_plain_dict(runtime& rt, call_values& arguments) {
  dict_object made = to_dict(rt, arguments, "dict");
  return make_dict(std::move(made.entries));
}

value raise_exception(runtime&, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "raise_exception", {"message"}, 1);
  throw failure{template_errc::raised, to_text(bound[0]), 0};
}

value strftime_now(runtime& rt, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "strftime_now", {"format"}, 1);
  const auto& format = to_string_argument(bound[0], "strftime() argument 1");
  const std::time_t now = rt.now();
  std::tm local{};
  localtime_r(&now, &local);
  if (format.empty())
    return value::string({});
  // A result of no bytes and one that does not fit look the same, so add a byte and drop it.
  std::string out(format.size() * 4 + 256, '\0');
  const size_t size = std::strftime(out.data(), out.size(), (format + "!").c_str(), &local);
  if (size == 0)
    fail("strftime_now cannot write a date in the format " + quote(format.substr(0, 100)));
  out.resize(size - 1);
  return rt.text(std::move(out));
}

class cycler_object : public callable_object {
public:
  explicit cycler_object(std::vector<value> items) : items_{std::move(items)} {
    name = "Cycler";
    uint32_t deepest = 0;
    for (const auto& item : items_)
      deepest = std::max(deepest, item.depth());
    depth = one_deeper(deepest);
  }
  value call(runtime&, call_values&) override { fail("'Cycler' object is not callable"); }
  value attribute(runtime& rt, std::string_view attribute_name) override {
    if (attribute_name == "current")
      return items_[*at_];
    if (attribute_name == "items")
      return value::tuple(items_);
    rt.charge(items_.size());
    if (attribute_name == "reset")
      return make_callable("reset", [at = at_](runtime&, call_values&) {
        *at = 0;
        return value::none();
      });
    if (attribute_name == "next")
      return make_callable("next", [at = at_, items = items_](runtime&, call_values&) {
        value out = items[*at];
        *at = (*at + 1) % items.size();
        return out;
      });
    return {};
  }

private:
  std::vector<value> items_;
  std::shared_ptr<size_t> at_ = std::make_shared<size_t>(0);
};

value make_cycler(runtime&, call_values& arguments) {
  if (arguments.positional.empty())
    fail("at least one item has to be provided");
  return value::of(kind::callable, std::make_shared<cycler_object>(arguments.positional));
}

value make_joiner(runtime&, call_values& arguments) {
  const auto bound = bind_arguments(arguments, "joiner", {"sep"});
  const value separator = bound[0].is_missing() ? value::string(", ") : bound[0];
  if (!separator.is(kind::string))
    fail("joiner: the separator must be a string");
  return make_callable("joiner",
                       [separator, used = std::make_shared<bool>(false)](runtime&, call_values&) {
                         if (*used)
                           return separator;
                         *used = true;
                         return value::string({});
                       });
}

} // namespace

const std::unordered_map<std::string, value>& globals() {
  using maker = value (*)(runtime&, call_values&);
  static constexpr std::pair<const char*, maker> functions[] = {
      {"range", range},
      {"namespace", make_namespace},
      {"dict", make_plain_dict},
      {"raise_exception", raise_exception},
      {"strftime_now", strftime_now},
      {"cycler", make_cycler},
      {"joiner", make_joiner},
  };
  static const auto all = [] { // none of them has a state, so every rendering can share them
    std::unordered_map<std::string, value> out;
    for (const auto& [name, function] : functions)
      out.emplace(name, make_callable(name, function));
    return out;
  }();
  return all;
}

} // namespace troupe::engine::jinja
