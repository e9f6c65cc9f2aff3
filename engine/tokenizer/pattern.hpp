#pragma once
#include "engine/tokenizer/json_fields.hpp"
#include "engine/tokenizer/regex.hpp"

namespace troupe::engine {

/// The `pattern` of a Split or Replace step: {"String": text} or {"Regex": expression}.
inline caf::expected<regex> make_pattern(json_fields::element spec, const std::string& origin) {
  const auto field = json_fields::find(spec, "pattern");
  std::string_view source;
  if (!field)
    return json_fields::malformed(origin, "a Split or Replace step has no `pattern`");
  if (!field->get(source))
    return regex::compile(source, true, origin);
  const auto literal = json_fields::find(*field, "String");
  const auto expression = json_fields::find(*field, "Regex");
  const auto chosen = literal ? literal : expression;
  if (!chosen || chosen->get(source))
    return json_fields::malformed(origin, "`pattern` is neither {String} nor {Regex}");
  return regex::compile(source, literal.has_value(), origin);
}

} // namespace troupe::engine
