#include "storage/shard_index.hpp"

#include <unordered_set>

#include <simdjson.h>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view{"/\\\0", 3}) == std::string_view::npos;
}

} // namespace

caf::expected<shard_index> parse_shard_index(std::string_view json, const std::string& origin) {
  const auto malformed = [&](const std::string& what) {
    return caf::make_error(errc::malformed, origin + ": " + what);
  };
  namespace dom = simdjson::dom;
  dom::parser parser;
  dom::object top;
  if (const auto code = parser.parse(json.data(), json.size()).get(top))
    return malformed(std::string{"is not a JSON object: "} + simdjson::error_message(code));
  dom::object weight_map;
  if (top["weight_map"].get(weight_map) != simdjson::SUCCESS)
    return malformed("has no object \"weight_map\"");
  shard_index out;
  std::unordered_set<std::string_view> seen;
  for (const auto [tensor, value] : weight_map) {
    std::string_view file;
    if (value.get(file) != simdjson::SUCCESS)
      return malformed("names no file for tensor \"" + std::string{tensor} + "\"");
    if (!is_plain_file_name(file))
      return malformed("tensor \"" + std::string{tensor} + "\" is said to be in \"" +
                       std::string{file} + "\", which is not a file of this directory");
    if (!seen.insert(tensor).second)
      return malformed("names tensor \"" + std::string{tensor} + "\" twice");
    out[std::string{file}].emplace_back(tensor);
  }
  if (out.empty())
    return malformed("lists no tensors");
  return out;
}

} // namespace troupe::storage
