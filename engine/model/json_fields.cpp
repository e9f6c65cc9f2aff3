#include "engine/model/json_fields.hpp"

#include <cmath>
#include <limits>

namespace troupe::engine {

namespace {

constexpr size_t size_bytes_max = 16u << 20;

/// A value as it stands in the file, cut short: messages must stay one line.
std::string excerpt(const nlohmann::json& value) {
  if (value.is_object())
    return "an object";
  if (value.is_array())
    return "a list";
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60)
    text = text.substr(0, 57) + "...";
  return text;
}

std::string range_text(double min, double max) {
  auto text = [](double x) {
    std::string s = nlohmann::json(x).dump();
    return s.ends_with(".0") ? s.substr(0, s.size() - 2) : s;
  };
  if (max >= std::numeric_limits<float>::max())
    return "at least " + text(min);
  return "from " + text(min) + " to " + text(max);
}

} // namespace

caf::expected<nlohmann::json> parse_json_object(std::string_view text, std::string_view origin) {
  const std::string where{origin};
  if (text.size() > size_bytes_max)
    return caf::make_error(errc::invalid_config, where + ": is larger than 16 MiB");
  try {
    auto value = nlohmann::json::parse(text);
    if (!value.is_object())
      return caf::make_error(errc::invalid_config, where + ": must hold a JSON object");
    return value;
  } catch (const nlohmann::json::parse_error& why) {
    return caf::make_error(errc::invalid_config,
                           where + ": is not valid JSON near byte " + std::to_string(why.byte));
  } catch (const nlohmann::json::exception&) {
    return caf::make_error(errc::invalid_config, where + ": holds a number out of range");
  }
}

json_fields::json_fields(const nlohmann::json& object, std::string origin, std::string path)
    : object_{object}, origin_{std::move(origin)}, path_{std::move(path)} {}

const nlohmann::json* json_fields::find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool json_fields::explicit_null(const char* key) const {
  const auto found = object_.find(key);
  return found != object_.end() && found->is_null();
}

void json_fields::fail(const char* key, const std::string& what, errc code) {
  if (!error_)
    error_ = caf::make_error(code, origin_ + ": " + path_ + key + " " + what);
}

void json_fields::adopt(const json_fields& inner) {
  if (!error_)
    error_ = inner.error_;
}

std::optional<double> json_fields::number(const char* key, double min, double max) {
  const auto* value = find(key);
  if (!value)
    return {};
  if (!value->is_number()) {
    fail(key, "must be a number, not " + excerpt(*value));
    return {};
  }
  const auto x = value->get<double>();
  if (!(x >= min && x <= max)) { // also NaN
    fail(key, "must be " + range_text(min, max) + ", not " + excerpt(*value));
    return {};
  }
  return x;
}

std::optional<int64_t> json_fields::integer(const char* key, int64_t min, int64_t max) {
  const auto x = number(key, static_cast<double>(min), static_cast<double>(max));
  if (x && *x != std::floor(*x)) {
    fail(key, "must be a whole number, not " + excerpt(*find(key)));
    return {};
  }
  return x ? std::optional{static_cast<int64_t>(*x)} : std::nullopt;
}

int64_t json_fields::integer_or(const char* key, int64_t fallback, int64_t min, int64_t max) {
  return integer(key, min, max).value_or(fallback);
}

int64_t json_fields::required_integer(const char* key, int64_t min, int64_t max) {
  if (!has(key))
    fail(key, "is missing");
  return integer_or(key, min, min, max);
}

double json_fields::number_or(const char* key, double fallback, double min, double max) {
  return number(key, min, max).value_or(fallback);
}

double json_fields::required_number(const char* key, double min, double max) {
  if (!has(key))
    fail(key, "is missing");
  return number_or(key, min, min, max);
}

std::optional<bool> json_fields::boolean(const char* key) {
  const auto* value = find(key);
  if (!value)
    return {};
  if (!value->is_boolean()) {
    fail(key, "must be true or false, not " + excerpt(*value));
    return {};
  }
  return value->get<bool>();
}

std::optional<std::string> json_fields::string(const char* key) {
  const auto* value = find(key);
  if (!value)
    return {};
  if (!value->is_string()) {
    fail(key, "must be a string, not " + excerpt(*value));
    return {};
  }
  return value->get<std::string>();
}

std::vector<std::string> json_fields::strings(const char* key, size_t size_max) {
  const auto* value = find(key);
  std::vector<std::string> out;
  if (!value)
    return out;
  if (!value->is_array() || value->size() > size_max) {
    fail(key, "must be a list of at most " + std::to_string(size_max) + " strings");
    return out;
  }
  for (const auto& item : *value) {
    if (!item.is_string()) {
      fail(key, "must hold strings, not " + excerpt(item));
      return {};
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<int32_t> json_fields::ids(const char* key, int64_t max) {
  const auto* value = find(key);
  std::vector<int32_t> out;
  if (!value)
    return out;
  auto add = [&](const nlohmann::json& item) {
    const double x = item.is_number() ? item.get<double>() : -1.0;
    if (!(x >= 0 && x <= static_cast<double>(max)) || x != std::floor(x))
      fail(key, "must hold token ids from 0 to " + std::to_string(max) + ", not " + excerpt(item));
    else
      out.push_back(static_cast<int32_t>(x));
  };
  constexpr size_t ids_max = 1024;
  if (!value->is_array())
    add(*value);
  else if (value->size() > ids_max)
    fail(key, "lists more than " + std::to_string(ids_max) + " tokens");
  else
    for (const auto& item : *value)
      add(item);
  return out;
}

const nlohmann::json* json_fields::object(const char* key) {
  const auto* value = find(key);
  if (value && !value->is_object()) {
    fail(key, "must be an object, not " + excerpt(*value));
    return nullptr;
  }
  return value;
}

} // namespace troupe::engine
