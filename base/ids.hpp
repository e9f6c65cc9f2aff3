#pragma once
#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace troupe {

/// The name under which a model is served, unique in a cluster.
struct model_id {
  std::string text;
  auto operator<=>(const model_id&) const = default;
};
template <class Inspector> // Duck-typed, so that a value can be sent without base/ including CAF.
typename Inspector::result_type inspect(Inspector& f, model_id& x) {
  return f(x.text);
}

/// One HTTP request, for example "req_5f0c...".
struct request_id {
  std::string text;
  auto operator<=>(const request_id&) const = default;
};
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, request_id& x) {
  return f(x.text);
}

/// One generated sequence: request `number` (unique per head process) and its choice index, n > 1.
struct sequence_id {
  uint64_t number = 0;
  uint32_t choice = 0;
  auto operator<=>(const sequence_id&) const = default;
};
template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, sequence_id& x) {
  return f(x.number, x.choice);
}

} // namespace troupe

template <>
struct std::hash<troupe::model_id> {
  size_t operator()(const troupe::model_id& x) const noexcept {
    return std::hash<std::string>{}(x.text);
  }
};
template <>
struct std::hash<troupe::sequence_id> {
  size_t operator()(const troupe::sequence_id& x) const noexcept {
    return std::hash<uint64_t>{}(x.number * 0x9e3779b97f4a7c15ull + x.choice);
  }
};
