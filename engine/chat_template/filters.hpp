#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/chat_template/registry.hpp"
#include "engine/chat_template/runtime.hpp"

namespace troupe::engine::jinja {

/// A dotted path such as "function.name" or "0.id", walked with Jinja's item rules. An undefined
/// step becomes `fallback` unless that is missing.
class attribute_path {
public:
  /// `path`: a string, an integer, or none for the item itself.
  explicit attribute_path(const value& path, value fallback = {});
  value of(runtime& rt, value x) const;

private:
  std::vector<value> steps_;
  value fallback_;
};

/// Lowers strings and leaves the rest, as the sorting filters compare by default.
value without_case(const value& x);
/// A filter's optional flag.
bool flag(const value& given, bool absent = false);
/// str(x), paid for.
std::string as_text(runtime& rt, const value& x);

} // namespace troupe::engine::jinja
