#include "base/rfc3339.hpp"

#include <cstdint>
#include <cstdio>

namespace troupe {
namespace {

using namespace std::chrono;

/// The clock counts nanoseconds in 64 bits, so it ends in 2262; a key may be valid until 9999.
system_clock::time_point held(sys_time<milliseconds> time) {
  if (time > floor<milliseconds>(system_clock::time_point::max()))
    return system_clock::time_point::max();
  if (time < ceil<milliseconds>(system_clock::time_point::min()))
    return system_clock::time_point::min();
  return time;
}

} // namespace

std::optional<std::chrono::system_clock::time_point> parse_rfc3339(const std::string& text) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, used = 0;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &year, &month, &day, &hour,
                  &minute, &second, &used) != 6 ||
      used == 0)
    return std::nullopt;
  const year_month_day date{std::chrono::year{year},
                            std::chrono::month{static_cast<unsigned>(month)},
                            std::chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60 || hour < 0 || minute < 0 || second < 0)
    return std::nullopt;
  sys_time<milliseconds> time = sys_days{date} + hours{hour} + minutes{minute} + seconds{second};
  auto at = static_cast<size_t>(used);
  if (at < text.size() && text[at] == '.') {
    int64_t scale = 100;
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, scale /= 10)
      time += milliseconds{scale * (text[at] - '0')};
  }
  const std::string zone = text.substr(at);
  if (zone == "Z" || zone == "z")
    return held(time);
  char sign = 0;
  if (std::sscanf(zone.c_str(), "%1c%2d:%2d%n", &sign, &hour, &minute, &used) != 3 ||
      static_cast<size_t>(used) != zone.size() || (sign != '+' && sign != '-'))
    return std::nullopt;
  const auto offset = hours{hour} + minutes{minute};
  return held(sign == '+' ? time - offset : time + offset);
}

std::string format_rfc3339(std::chrono::system_clock::time_point when) {
  const auto total = floor<milliseconds>(when);
  const auto day = floor<days>(total);
  const year_month_day date{day};
  const hh_mm_ss time{total - day};
  char text[48];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", int{date.year()},
                unsigned{date.month()}, unsigned{date.day()},
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                static_cast<int>(time.seconds().count()),
                static_cast<int>(time.subseconds().count()));
  return text;
}

} // namespace troupe
