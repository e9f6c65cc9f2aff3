#include "cli/table.hpp"

#include <algorithm>
#include <ctime>

namespace troupe::cli {

namespace {

/// Characters, not bytes: model names may be any UTF-8.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

} // namespace

std::string render_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      line += row[i] + std::string(widths[i] - width_of(row[i]) + 4, ' ');
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string relative_time(std::chrono::system_clock::time_point when,
                          std::chrono::system_clock::time_point now) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(when - now).count();
  const auto amount = seconds < 0 ? -seconds : seconds;
  if (amount == 0)
    return "now";
  constexpr std::pair<int64_t, const char*> units[] = {
      {86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
  for (const auto& [size, name] : units) {
    if (amount < size)
      continue;
    const auto count = amount / size;
    const auto text = std::to_string(count) + " " + name + (count == 1 ? "" : "s");
    return seconds < 0 ? text + " ago" : "in " + text;
  }
  return "now";
}

std::chrono::system_clock::time_point parse_rfc3339(const std::string& text) {
  std::tm parts{};
  if (!strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts))
    return {};
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

} // namespace troupe::cli
