#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/metadata.hpp"

/// Reads of single metadata values; one of another type counts as absent.
namespace troupe::engine {

template <class T>
const T* value_if(const metadata& values, std::string_view name) {
  const auto found = values.find(name);
  return found == values.end() ? nullptr : std::get_if<T>(&found->second);
}

template <class T>
const std::vector<T>* list_if(const metadata& values, std::string_view name) {
  const auto* list = value_if<metadata_list>(values, name);
  return list == nullptr ? nullptr : std::get_if<std::vector<T>>(list);
}

/// A whole number of either sign.
inline std::optional<int64_t> integer_of(const metadata& values, std::string_view name) {
  if (const auto* x = value_if<uint64_t>(values, name); x && *x <= INT64_MAX)
    return static_cast<int64_t>(*x);
  if (const auto* x = value_if<int64_t>(values, name))
    return *x;
  return std::nullopt;
}

/// What kind of token stands at an id, as `tokenizer.ggml.token_type` numbers it.
enum class gguf_token_kind : int64_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

/// Normal where the file does not say.
inline gguf_token_kind kind_of_token(const metadata& values, size_t id) {
  const auto* kinds = list_if<int64_t>(values, "tokenizer.ggml.token_type");
  return kinds && id < kinds->size() ? static_cast<gguf_token_kind>((*kinds)[id])
                                     : gguf_token_kind::normal;
}

} // namespace troupe::engine
