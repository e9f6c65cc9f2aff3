#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/chat_template/failure.hpp"

namespace troupe::engine::jinja {

class runtime;
class value;

enum class kind : uint8_t {
  missing, ///< a variable that was never set; never seen by a filter or an operator
  undefined,
  none,
  boolean,
  integer,
  real,
  string,
  sequence,
  dict,
  iterator,
  space, ///< what namespace() makes
  callable,
};

/// Which Python type a sequence stands for: they print, compare and index differently.
enum class flavor : uint8_t { list, tuple, group, range, keys, values, items };

/// Everything that lives on the heap. `depth` is one more than the deepest value inside and is
/// bounded, so that destroying or printing a value cannot exhaust the stack. `weight` is what
/// printing or comparing it costs, shared parts counted each time, and is bounded too: without that
/// a list of two lists of two lists ... would take forever to print.
struct object {
  uint32_t depth = 1;
  uint64_t weight = 1;
  virtual ~object() = default;
};

using object_ptr = std::shared_ptr<object>;

/// One Python value. Copies share the object; all objects but namespaces, iterators and the like
/// never change after they were made.
class value {
public:
  value() = default;
  static value undefined(std::string why, bool unsafe = false);
  static value none() { return value{kind::none}; }
  static value boolean(bool x);
  static value integer(int64_t x);
  static value real(double x);
  static value string(std::string text, bool markup = false);
  static value sequence(flavor type, std::vector<value> items);
  static value list(std::vector<value> items) { return sequence(flavor::list, std::move(items)); }
  static value tuple(std::vector<value> items) { return sequence(flavor::tuple, std::move(items)); }
  static value of(kind type, object_ptr held);

  kind type() const { return kind_; }
  bool is(kind type) const { return kind_ == type; }
  bool is(flavor type) const;
  bool is_missing() const { return kind_ == kind::missing; }
  /// Integers and booleans: what Python's isinstance(x, int) accepts.
  bool is_int() const { return kind_ == kind::integer || kind_ == kind::boolean; }
  bool is_number() const { return is_int() || kind_ == kind::real; }

  bool as_bool() const { return number_.i != 0; }
  int64_t as_int() const { return number_.i; }
  /// Of any number.
  double as_real() const {
    return kind_ == kind::real ? number_.d : static_cast<double>(number_.i);
  }
  const std::string& text() const;
  const std::vector<value>& items() const;
  uint32_t depth() const { return object_ ? object_->depth : 0; }
  uint64_t weight() const { return object_ ? object_->weight : 1; }
  object* held() const { return object_.get(); }
  const object_ptr& shared() const { return object_; }
  template <class T>
  T& as() const {
    return static_cast<T&>(*object_);
  }

private:
  explicit value(kind type) : kind_{type} {}
  kind kind_ = kind::missing;
  union {
    int64_t i = 0;
    double d;
  } number_;
  object_ptr object_;
};

struct undefined_object : object {
  std::string why;
  bool unsafe = false;
};

struct string_object : object {
  std::string text;  ///< UTF-8; lone surrogates as three bytes
  size_t length = 0; ///< code points
  bool markup = false;
  bool ascii() const { return length == text.size(); }
};

struct sequence_object : object {
  flavor type = flavor::list;
  int64_t start = 0, stop = 0, step = 1; ///< of a range, whose items do not tell them all
  std::vector<value> items;
};

/// Keeps insertion order. Small ones are searched by comparing, large ones through an index.
struct dict_object : object {
  std::vector<std::pair<value, value>> entries;
  std::unordered_multimap<size_t, size_t> index;
  /// Null when absent. An unhashable key is a TypeError.
  const value* find(const value& key) const;
  const value* find(std::string_view key) const;
  void set(value key, value item);
  void erase(std::string_view key);
};

/// A Python generator: can be walked once.
struct iterator_object : object {
  std::function<std::optional<value>()> next;
};

struct space_object : object {
  dict_object attributes;
};

/// Arguments of a call, as evaluated.
struct call_values {
  std::vector<value> positional;
  std::vector<std::pair<std::string, value>> named;
  /// The named argument `name`, removed; missing when it was not given.
  value take(std::string_view name);
};

/// Anything that can be called: a method, a macro, a global, a loop.
struct callable_object : object {
  std::string name;
  virtual value call(runtime& rt, call_values& arguments) = 0;
  /// Attributes beside being callable (loop.index, cycler.next ...): missing when there is none.
  virtual value attribute(runtime&, std::string_view) { return {}; }
  /// A loop has a length, most callables have none.
  virtual std::optional<int64_t> length() { return std::nullopt; }
};

value make_callable(std::string name, std::function<value(runtime&, call_values&)> call);
/// `source_depth` is the depth of what the generator reads from.
value make_iterator(uint32_t source_depth, std::function<std::optional<value>()> next);
/// The `count` integers from `start` on; `stop` is only remembered.
value make_range(int64_t start, int64_t stop, int64_t step, size_t count);
value make_dict(std::vector<std::pair<value, value>> entries);

/// How deep values, and generators over generators, may nest.
constexpr uint32_t nesting_max = 400;
/// Throws when a container whose deepest member has `depth` would be nested too deep.
uint32_t one_deeper(uint32_t depth);
/// The heaviest value there may be, and the addition that enforces it.
constexpr uint64_t weight_max = uint64_t{1} << 26;
uint64_t heavier(uint64_t weight, uint64_t by);

bool truthy(const value& x);
/// Python's ==.
bool equal(const value& a, const value& b);
/// Python's hash, equal for equal values; a TypeError for lists and dicts.
size_t hash_of(const value& x);
std::string type_name(const value& x);
/// The error that Python raises when an undefined value is used.
[[noreturn]] void fail_undefined(const value& x);

/// str(x) and repr(x).
std::string to_text(const value& x);
std::string to_repr(const value& x);
std::string quote(std::string_view text);
/// repr of a float: the shortest digits that read back as the same number.
std::string real_text(double x);

} // namespace troupe::engine::jinja
