#pragma once
#include <chrono>
#include <optional>
#include <string>

namespace troupe {

/// The time of an RFC 3339 text, with Z or an offset, fractions cut at milliseconds. A time
/// that the clock cannot hold (it covers 1677 to 2262) becomes the nearest that it can.
std::optional<std::chrono::system_clock::time_point> parse_rfc3339(const std::string& text);
/// In UTC with milliseconds: "2026-01-02T03:04:05.678Z".
std::string format_rfc3339(std::chrono::system_clock::time_point when);

} // namespace troupe
