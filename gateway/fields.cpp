#include "gateway/fields.hpp"

#include <cmath>
#include <cstdio>

namespace troupe::gateway {

namespace {

const std::string no_text;

std::string print(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", value);
  return text;
}

std::string_view kind_of(const json& value) {
  switch (value.type()) {
  case json::value_t::object:
    return "an object";
  case json::value_t::array:
    return "an array";
  case json::value_t::string:
    return "a string";
  case json::value_t::boolean:
    return "a boolean";
  case json::value_t::number_float:
    return "a decimal number";
  case json::value_t::null:
    return "null";
  default:
    return "an integer";
  }
}

} // namespace

field_reader::field_reader(const json& object, std::string where)
    : object_{object}, where_{std::move(where)}, read_(object.size(), false) {}

const json* field_reader::find(std::string_view name) {
  const auto& fields = object_.get_ref<const json::object_t&>();
  for (size_t i = 0; i < fields.size(); ++i)
    if (fields.begin()[i].first == name) {
      read_[i] = true;
      return error_ || fields.begin()[i].second.is_null() ? nullptr : &fields.begin()[i].second;
    }
  return nullptr;
}

void field_reader::fail(api_error error) {
  if (!error_)
    error_ = std::move(error);
}

void field_reader::fail(std::string_view name, std::string message, std::string code) {
  fail({400, std::move(message), "invalid_request_error", path(name), std::move(code), {}});
}

void field_reader::wrong_type(std::string_view name, const json& got, std::string_view wanted) {
  fail(name,
       "Invalid type for '" + path(name) + "': expected " + std::string{wanted} + ", but got " +
           std::string{kind_of(got)} + " instead.",
       "invalid_type");
}

std::optional<double> field_reader::number(std::string_view name, double min, double max) {
  const auto* value = find(name);
  if (!value)
    return std::nullopt;
  if (!value->is_number()) {
    wrong_type(name, *value, "a number");
    return std::nullopt;
  }
  const auto out = value->get<double>();
  if (!(out >= min && out <= max)) { // NaN included
    fail(name,
         "Invalid value for '" + path(name) + "': " + print(out) + " is not between " + print(min) +
             " and " + print(max) + ".",
         "invalid_value");
    return std::nullopt;
  }
  return out;
}

std::optional<int64_t> field_reader::integer(std::string_view name, int64_t min, int64_t max) {
  const auto* value = find(name);
  if (!value)
    return std::nullopt;
  // Past 2^53 a decimal number no longer says which integer it means.
  const bool whole = value->is_number_float() &&
                     std::floor(value->get<double>()) == value->get<double>() &&
                     std::abs(value->get<double>()) <= 9007199254740992.0;
  if (!value->is_number_integer() && !whole) {
    wrong_type(name, *value, "an integer");
    return std::nullopt;
  }
  const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  const int64_t out = huge    ? INT64_MAX
                      : whole ? int64_t(value->get<double>())
                              : value->get<int64_t>();
  if (huge || out < min || out > max) {
    fail(name,
         "Invalid value for '" + path(name) + "': " + value->dump() + " is not between " +
             std::to_string(min) + " and " + std::to_string(max) + ".",
         "invalid_value");
    return std::nullopt;
  }
  return out;
}

std::optional<bool> field_reader::boolean(std::string_view name) {
  const auto* value = find(name);
  if (!value)
    return std::nullopt;
  if (!value->is_boolean()) {
    wrong_type(name, *value, "a boolean");
    return std::nullopt;
  }
  return value->get<bool>();
}

const std::string* field_reader::text(std::string_view name) {
  const auto* value = find(name);
  if (value && !value->is_string()) {
    wrong_type(name, *value, "a string");
    return nullptr;
  }
  return value ? &value->get_ref<const std::string&>() : nullptr;
}

const json* field_reader::array(std::string_view name) {
  const auto* value = find(name);
  if (value && !value->is_array()) {
    wrong_type(name, *value, "an array");
    return nullptr;
  }
  return value;
}

const json* field_reader::object(std::string_view name) {
  const auto* value = find(name);
  if (value && !value->is_object()) {
    wrong_type(name, *value, "an object");
    return nullptr;
  }
  return value;
}

const json* field_reader::any(std::string_view name) { return find(name); }

const std::string& field_reader::required_text(std::string_view name) {
  const auto* value = text(name);
  if (!value)
    fail(name, "Missing required parameter: '" + path(name) + "'.", "missing_required_parameter");
  return value ? *value : no_text;
}

std::vector<std::string> field_reader::unread() const {
  std::vector<std::string> out;
  const auto& fields = object_.get_ref<const json::object_t&>();
  for (size_t i = 0; i < fields.size(); ++i)
    if (!read_[i])
      out.push_back(fields.begin()[i].first);
  return out;
}

} // namespace troupe::gateway
