#include "cli/clock_text.hpp"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "base/rfc3339.hpp"
#include "config/units.hpp"

namespace troupe::cli {

std::string relative_time(std::chrono::system_clock::time_point when,
                          std::chrono::system_clock::time_point now) {
  const auto seconds = std::chrono::round<std::chrono::seconds>(when - now).count();
  const auto amount = seconds < 0 ? -seconds : seconds;
  constexpr std::pair<int64_t, const char*> units[] = {
      {86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
  for (const auto& [size, name] : units) {
    if (amount < size)
      continue;
    const auto count = amount / size;
    const auto text = std::to_string(count) + " " + name + (count == 1 ? "" : "s");
    return text + (seconds < 0 ? " ago" : " from now");
  }
  return "now";
}

std::string elapsed_text(double seconds) {
  char text[48];
  if (seconds < 0.9995)
    std::snprintf(text, sizeof text, "%.0f ms", seconds * 1e3);
  else if (seconds < 59.95)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else if (const auto whole = std::llround(seconds); whole < 3600)
    std::snprintf(text, sizeof text, "%lldm %llds", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%lldh %lldm", whole / 3600, whole / 60 % 60);
  return text;
}

std::optional<std::chrono::system_clock::time_point>
parse_moment(const std::string& text, std::chrono::system_clock::time_point now, bool back) {
  constexpr auto far = std::chrono::hours{24 * 366 * 100}; // the clock itself ends in 2262
  if (const auto span = config::parse_duration(text); span && *span < far)
    return back ? now - *span : now + *span;
  return parse_rfc3339(text.size() == 10 ? text + "T00:00:00Z" : text);
}

} // namespace troupe::cli
