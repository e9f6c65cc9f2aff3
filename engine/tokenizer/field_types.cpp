#include "engine/tokenizer/field_types.hpp"

#include <algorithm>
#include <array>

namespace troupe::engine {

namespace {

using json_fields::element;

constexpr std::array texts = {
    "type",
    "content",
    "prepend",
    "prepend_scheme",
    "replacement",
    "behavior",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
};
constexpr std::array flags = {
    "special",
    "single_word",
    "lstrip",
    "rstrip",
    "normalized",
    "use_regex",
    "split",
    "invert",
    "strip_left",
    "strip_right",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
    "individual_digits",
    "add_prefix_space",
};
constexpr std::array integers = {"start", "stop"};
/// Large or keyed by tokens (their readers check them), or not for this reader.
constexpr std::array not_entered = {"vocab", "merges", "special_tokens", "truncation", "padding"};

template <class Names>
bool has(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// What belongs into the field, or nullptr when its value is fine.
const char* expected_instead(std::string_view name, element value) {
  if (value.is_null())
    return nullptr;
  if (has(texts, name) && !value.is_string())
    return "a text";
  if (has(flags, name) && !value.is_bool())
    return "true or false";
  if (has(integers, name) && !value.is_int64())
    return "a whole number";
  return nullptr;
}

caf::error check(element where, const std::string& path, const std::string& origin) {
  simdjson::dom::array list;
  if (!where.get(list)) {
    for (const auto entry : list)
      if (auto why = check(entry, path, origin))
        return why;
    return {};
  }
  simdjson::dom::object object;
  if (where.get(object))
    return {};
  for (const auto [name, value] : object) {
    if (has(not_entered, name))
      continue;
    const auto field = path.empty() ? std::string{name} : path + '.' + std::string{name};
    if (const auto* instead = expected_instead(name, value))
      return json_fields::malformed(origin, "`" + field + "` must be " + instead);
    if (value.is_object() || value.is_array())
      if (auto why = check(value, field, origin))
        return why;
  }
  return {};
}

} // namespace

caf::error check_field_types(element root, const std::string& origin) {
  return check(root, {}, origin);
}

} // namespace troupe::engine
