#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/errors.hpp"

namespace troupe::engine {

/// Reads typed fields of one JSON object and remembers the first thing that was wrong with it, so
/// that a parser is a list of reads with one check at the end. null counts as absent, as in Python.
class json_fields {
public:
  /// `path` goes before the keys in messages: "rope_scaling.".
  json_fields(const nlohmann::json& object, std::string origin, std::string path = "");

  /// Whole numbers in [min, max]; 4.0 counts as 4.
  std::optional<int64_t> integer(const char* key, int64_t min, int64_t max);
  int64_t integer_or(const char* key, int64_t fallback, int64_t min, int64_t max);
  int64_t required_integer(const char* key, int64_t min, int64_t max);
  /// Finite numbers in [min, max].
  std::optional<double> number(const char* key, double min, double max);
  double number_or(const char* key, double fallback, double min, double max);
  double required_number(const char* key, double min, double max);
  std::optional<bool> boolean(const char* key);
  bool boolean_or(const char* key, bool fallback) { return boolean(key).value_or(fallback); }
  std::optional<std::string> string(const char* key);
  std::vector<std::string> strings(const char* key, size_t size_max);
  /// One whole number or a list of them.
  std::vector<int32_t> ids(const char* key, int64_t max);
  /// The object under `key`; null if there is none.
  const nlohmann::json* object(const char* key);
  bool has(const char* key) const { return find(key) != nullptr; }
  /// The key is there and its value is null.
  bool explicit_null(const char* key) const;

  /// Records a failure at `key`; only the first one counts.
  void fail(const char* key, const std::string& what, errc code = errc::invalid_config);
  void adopt(const json_fields& inner);
  bool ok() const { return !error_; }
  const caf::error& error() const { return error_; }

private:
  const nlohmann::json* find(const char* key) const;
  const nlohmann::json& object_;
  std::string origin_;
  std::string path_;
  caf::error error_;
};

/// Parses a JSON object; fails with invalid_config, naming `origin` and the byte.
caf::expected<nlohmann::json> parse_json_object(std::string_view text, std::string_view origin);

} // namespace troupe::engine
