#pragma once
#include <chrono>
#include <string>

namespace troupe::cli {

/// "4 minutes from now", "18 seconds ago", "now".
std::string relative_time(std::chrono::system_clock::time_point when,
                          std::chrono::system_clock::time_point now);

/// A length for people, one unit: "820 ms", "1.4 s", "2m 5s", "3h 12m".
std::string elapsed_text(double seconds);

} // namespace troupe::cli
