// x[start:stop:step]
#include <algorithm>

#include "engine/chat_template/operators.hpp"
#include "engine/chat_template/unicode.hpp"

namespace troupe::engine::jinja {

namespace {

struct bounds {
  int64_t start, stop, step;
};

int64_t bound(const value& x, int64_t absent) {
  if (x.is_missing() || x.is(kind::none))
    return absent;
  if (!x.is_int())
    fail("slice indices must be integers or None or have an __index__ method");
  return x.as_int();
}

/// Python's slice.indices.
bounds resolve(int64_t size, const value& start, const value& stop, const value& step) {
  bounds out{0, 0, bound(step, 1)};
  if (out.step == 0)
    fail("slice step cannot be zero");
  const bool back = out.step < 0;
  const int64_t lowest = back ? -1 : 0, highest = back ? size - 1 : size;
  const auto clamp = [&](int64_t at) {
    if (at < 0)
      return std::max(at + size, lowest);
    return std::min(at, highest);
  };
  const auto given = [](const value& x) { return !x.is_missing() && !x.is(kind::none); };
  out.start = given(start) ? clamp(bound(start, 0)) : back ? highest : lowest;
  out.stop = given(stop) ? clamp(bound(stop, 0)) : back ? lowest : highest;
  return out;
}

template <class Take>
void walk(const bounds& b, Take take) {
  // The distance is at most the size of a sequence, so only the step can be huge.
  for (int64_t at = b.start; b.step > 0 ? at < b.stop : at > b.stop;) {
    take(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, b.step, &at))
      return;
  }
}

value slice_string(runtime& rt, const value& x, const bounds& b) {
  const auto& held = x.as<string_object>();
  const auto& text = held.text;
  rt.charge(held.ascii() ? 1 : text.size() / 8);
  std::string out;
  if (b.step == 1) {
    if (b.start >= b.stop)
      return rt.text({}, held.markup);
    const auto from = static_cast<size_t>(b.start), count = static_cast<size_t>(b.stop - b.start);
    if (held.ascii())
      return rt.text(text.substr(from, count), held.markup);
    const size_t first = offset_of(text, from);
    const std::string_view rest = std::string_view{text}.substr(first);
    return rt.text(std::string(rest.substr(0, offset_of(rest, count))), held.markup);
  }
  if (held.ascii()) {
    walk(b, [&](size_t at) { out += text[at]; });
  } else {
    const auto points = split_points(text);
    rt.charge(points.size());
    walk(b, [&](size_t at) { out += points[at]; });
  }
  return rt.text(std::move(out), held.markup);
}

} // namespace

value slice(runtime& rt, const value& x, const value& start, const value& stop, const value& step) {
  if (x.is(kind::undefined))
    fail_undefined(x);
  if (x.is(kind::string))
    return slice_string(rt, x, resolve(length_of(x), start, stop, step));
  if (x.is(kind::dict))
    fail("unhashable type: 'slice'");
  if (!x.is(kind::sequence) || x.is(flavor::keys) || x.is(flavor::values) || x.is(flavor::items))
    fail("'" + type_name(x) + "' object is not subscriptable");
  const bounds b = resolve(length_of(x), start, stop, step);
  std::vector<value> out;
  walk(b, [&](size_t at) { out.push_back(x.items()[at]); });
  rt.charge(out.size() * 2 + 1);
  if (!x.is(flavor::range))
    return value::sequence(x.is(flavor::list) ? flavor::list : flavor::tuple, std::move(out));
  const auto& range = x.as<sequence_object>();
  int64_t stride = 0;
  if (__builtin_mul_overflow(range.step, b.step, &stride))
    fail("an integer does not fit in 64 bits");
  return make_range(range.start + b.start * range.step, range.start + b.stop * range.step, stride,
                    out.size());
}

} // namespace troupe::engine::jinja
