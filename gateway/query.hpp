#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace troupe::gateway {

/// A field of a query ("since=2026&x=y"), decoded; nothing when it is not there. Broken escapes
/// give an empty text.
std::optional<std::string> query_field(std::string_view query, std::string_view name);

} // namespace troupe::gateway
