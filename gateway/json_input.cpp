#include "gateway/json_input.hpp"

#include <algorithm>
#include <vector>

#include <nlohmann/json.hpp>
#include <simdjson.h>

namespace troupe::gateway {

using json = nlohmann::ordered_json;
namespace dom = simdjson::dom;

namespace {

/// Parsers keep their memory; one for a body larger than this is not kept.
constexpr size_t kept_parser_bytes_max = 256u << 10;

api_error invalid_json(std::string message) {
  return {400,
          "The request body is not valid JSON: " + std::move(message),
          "invalid_request_error",
          "",
          "invalid_json",
          {}};
}

/// Finds out where a text stops being JSON: simdjson says only that it does.
struct position_finder {
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;
  std::string message;
  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool number_integer(number_integer_t) { return true; }
  bool number_unsigned(number_unsigned_t) { return true; }
  bool number_float(number_float_t, const string_t&) { return true; }
  bool string(string_t&) { return true; }
  bool binary(binary_t&) { return true; }
  bool start_object(size_t) { return true; }
  bool key(string_t&) { return true; }
  bool end_object() { return true; }
  bool start_array(size_t) { return true; }
  bool end_array() { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& why) {
    message = why.what();
    return false;
  }
};

std::string describe_syntax_error(std::string_view body, simdjson::error_code code) {
  if (code == simdjson::DEPTH_ERROR)
    return "it is nested deeper than " + std::to_string(json_depth_max) + " levels.";
  if (code == simdjson::NUMBER_ERROR)
    return "a number is malformed or too large.";
  if (code == simdjson::EMPTY)
    return "it is empty.";
  position_finder finder;
  json::sax_parse(body.begin(), body.end(), &finder);
  if (finder.message.empty())
    return std::string{simdjson::error_message(code)};
  // "[json.exception.parse_error.101] parse error at line 1, column 9: ..."
  const auto bracket = finder.message.find("] ");
  auto text = bracket == std::string::npos ? finder.message : finder.message.substr(bracket + 2);
  // It quotes what it read last, which can be a whole broken string.
  constexpr size_t text_max = 300;
  if (text.size() > text_max)
    text = text.substr(0, text_max) + "...";
  return text + ".";
}

/// The first key that occurs twice. Which of the two counts would depend on the reader.
const std::string_view* find_duplicate(std::vector<std::string_view>& keys) {
  std::sort(keys.begin(), keys.end());
  const auto found = std::adjacent_find(keys.begin(), keys.end());
  return found == keys.end() ? nullptr : &*found;
}

bool convert(const dom::element& from, json& to, std::string& why);

bool convert_object(const dom::object& from, json& to, std::string& why) {
  to = json::object();
  auto& fields = to.get_ref<json::object_t&>();
  fields.reserve(from.size());
  std::vector<std::string_view> keys;
  keys.reserve(from.size());
  for (const auto field : from) {
    keys.push_back(field.key);
    // Past the map's own insertion, which looks for the key among all earlier ones: quadratic.
    auto& slot = fields.emplace_back(std::string{field.key}, json{});
    if (!convert(field.value, slot.second, why))
      return false;
  }
  if (const auto* twice = find_duplicate(keys)) {
    why = "the key '" + std::string{twice->substr(0, 100)} + "' occurs twice in one object.";
    return false;
  }
  return true;
}

bool convert_array(const dom::array& from, json& to, std::string& why) {
  to = json::array();
  auto& items = to.get_ref<json::array_t&>();
  items.reserve(from.size());
  for (const auto item : from)
    if (!convert(item, items.emplace_back(), why))
      return false;
  return true;
}

/// Recursion is bounded by json_depth_max, which the parser has checked.
bool convert(const dom::element& from, json& to, std::string& why) {
  switch (from.type()) {
  case dom::element_type::OBJECT:
    return convert_object(dom::object(from), to, why);
  case dom::element_type::ARRAY:
    return convert_array(dom::array(from), to, why);
  case dom::element_type::STRING:
    to = std::string{std::string_view(from)};
    return true;
  case dom::element_type::INT64:
    to = int64_t(from);
    return true;
  case dom::element_type::UINT64:
    to = uint64_t(from);
    return true;
  case dom::element_type::DOUBLE:
    to = double(from);
    return true;
  case dom::element_type::BOOL:
    to = bool(from);
    return true;
  case dom::element_type::NULL_VALUE:
    break;
  }
  to = nullptr;
  return true;
}

result<json> parse_with(dom::parser& parser, std::string_view body) {
  if (const auto code = parser.allocate(std::max<size_t>(body.size(), 4096), json_depth_max))
    return api_error{413,
                     "The request body is too large to be parsed.",
                     "invalid_request_error",
                     "",
                     simdjson::error_message(code),
                     {}};
  dom::element root;
  if (const auto code = parser.parse(body.data(), body.size()).get(root))
    return invalid_json(describe_syntax_error(body, code));
  if (root.type() != dom::element_type::OBJECT)
    return invalid_json("it must be an object, like {\"model\": \"...\"}.");
  json out;
  std::string why;
  if (!convert(root, out, why))
    return invalid_json(std::move(why));
  return out;
}

} // namespace

result<json> parse_json_object(std::string_view body) {
  if (body.size() > kept_parser_bytes_max) {
    dom::parser parser;
    return parse_with(parser, body);
  }
  thread_local dom::parser kept;
  return parse_with(kept, body);
}

} // namespace troupe::gateway
