#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "gateway/api_error.hpp"

namespace troupe::gateway {

using json = nlohmann::ordered_json;

/// Reads the fields of one object of a request. null counts as absent, as the OpenAI API has it.
/// The first problem is kept and everything after it answers "absent", so that callers read all
/// fields in a row and look once.
class field_reader {
public:
  /// `where` goes before names in messages, for example "messages[2]."; `object` must outlive this.
  field_reader(const json& object, std::string where = {});

  std::optional<double> number(std::string_view name, double min, double max);
  /// 3.0 counts as 3.
  std::optional<int64_t> integer(std::string_view name, int64_t min, int64_t max);
  std::optional<bool> boolean(std::string_view name);
  const std::string* text(std::string_view name);
  const json* array(std::string_view name);
  const json* object(std::string_view name);
  const json* any(std::string_view name);
  /// Fails when the field is absent.
  const std::string& required_text(std::string_view name);
  /// Accepts a field without using it.
  void ignore(std::string_view name) { any(name); }

  void fail(std::string_view name, std::string message, std::string code);
  void fail(api_error error);
  /// "Invalid type for 'name': expected WANTED, but got a string instead."
  void wrong_type(std::string_view name, const json& got, std::string_view wanted);

  bool failed() const { return error_.has_value(); }
  const std::optional<api_error>& error() const { return error_; }
  std::string path(std::string_view name) const { return where_ + std::string{name}; }
  /// Fields that nothing has asked for.
  std::vector<std::string> unread() const;

private:
  const json* find(std::string_view name);

  const json& object_;
  std::string where_;
  std::vector<bool> read_;
  std::optional<api_error> error_;
};

} // namespace troupe::gateway
