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

/// The time of an RFC 3339 text, with Z or an offset, fractions cut at milliseconds.
std::optional<std::chrono::system_clock::time_point> parse_rfc3339(const std::string& text);
/// In UTC with milliseconds: "2026-01-02T03:04:05.678Z".
std::string format_rfc3339(std::chrono::system_clock::time_point when);

} // namespace troupe::cli
