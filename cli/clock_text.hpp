#pragma once
#include <chrono>
#include <optional>
#include <string>

namespace troupe::cli {

/// "4 minutes from now", "18 seconds ago", "now".
std::string relative_time(std::chrono::system_clock::time_point when,
                          std::chrono::system_clock::time_point now);

/// A length for people, one unit: "820 ms", "1.4 s", "2m 5s", "3h 12m".
std::string elapsed_text(double seconds);

/// "24h" and "30d" count from `now`, forwards or `back`; "2026-01-31" is its beginning in UTC, and
/// "2026-01-31T12:00:00Z" what it says.
std::optional<std::chrono::system_clock::time_point>
parse_moment(const std::string& text, std::chrono::system_clock::time_point now, bool back);

} // namespace troupe::cli
