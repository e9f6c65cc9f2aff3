#pragma once
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "gateway/api_error.hpp"

namespace troupe::gateway {

/// Nesting beyond this is refused: no real request comes near, and what reads the value recurses.
constexpr size_t json_depth_max = 64;

/// Parses one JSON object as a client sent it. Refuses, with code invalid_json, what is not UTF-8,
/// not JSON, nested too deeply, too large for a number, or names a key twice.
result<nlohmann::ordered_json> parse_json_object(std::string_view body);

} // namespace troupe::gateway
