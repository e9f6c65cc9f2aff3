#include "cli/table.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/terminal.hpp"

namespace troupe::cli {
namespace {

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = '?';
  return text;
}

} // namespace

std::string render_table(const std::vector<std::vector<std::string>>& given, bool colour) {
  auto rows = given;
  for (auto& row : rows)
    for (auto& cell : row)
      cell = printable(std::move(cell));
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      line += row[i] + std::string(widths[i] - display_width(row[i]) + 4, ' ');
    line.erase(line.find_last_not_of(' ') + 1);
    const bool bold = colour && &row == rows.data();
    out += (bold ? "\033[1m" + line + "\033[0m" : line) + "\n";
  }
  return out;
}

std::string three_digits(double value) {
  if (!(std::abs(value) > 0))
    return "0";
  const int before = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  char text[40];
  std::snprintf(text, sizeof text, "%.*f", std::max(0, 3 - before), value);
  return text;
}

} // namespace troupe::cli
