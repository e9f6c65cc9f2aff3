#pragma once
#include <chrono>
#include <string>
#include <vector>

namespace troupe::cli {

/// Left-aligned columns, four spaces apart, no borders; the first row is the heading.
std::string render_table(const std::vector<std::vector<std::string>>& rows);

/// "in 4 minutes", "18 seconds ago", "now".
std::string relative_time(std::chrono::system_clock::time_point when,
                          std::chrono::system_clock::time_point now);

/// The time of an RFC 3339 text in UTC ("2026-01-02T03:04:05.678Z"); the epoch when it is none.
std::chrono::system_clock::time_point parse_rfc3339(const std::string& text);

} // namespace troupe::cli
