#pragma once
#include <optional>
#include <string>
#include <string_view>

#include <simdjson.h>

#include "base/error.hpp"
#include "engine/tokenizer/errors.hpp"

/// Field access for tokenizer.json: a missing or null field gives `otherwise`. Wrong types were
/// reported by check_field_types before.
namespace troupe::engine::json_fields {

using element = simdjson::dom::element;

inline caf::error malformed(const std::string& origin, std::string_view what) {
  return caf::make_error(tokenizer_errc::malformed, origin + ": " + std::string{what});
}

/// The field, or nothing when `where` is no object, lacks it or has null there.
inline std::optional<element> find(element where, std::string_view key) {
  element found;
  if (where.type() != simdjson::dom::element_type::OBJECT || where[key].get(found) ||
      found.is_null())
    return std::nullopt;
  return found;
}

inline std::string text(element where, std::string_view key, std::string_view otherwise = {}) {
  std::string_view found;
  const auto field = find(where, key);
  if (!field || field->get(found))
    return std::string{otherwise};
  return std::string{found};
}

inline bool flag(element where, std::string_view key, bool otherwise) {
  bool found = otherwise;
  const auto field = find(where, key);
  if (field && field->get(found))
    return otherwise;
  return found;
}

inline int64_t integer(element where, std::string_view key, int64_t otherwise) {
  int64_t found = otherwise;
  const auto field = find(where, key);
  if (field && field->get(found))
    return otherwise;
  return found;
}

} // namespace troupe::engine::json_fields
