#pragma once
#include <string>
#include <vector>

namespace troupe::cli {

/// Lines over a common horizontal axis that starts at 0.
struct chart_line {
  std::string name;
  std::vector<double> values; ///< at 0, step, 2 * step ...
};
struct chart {
  std::string title;
  std::string x_label, y_label;
  double step = 1;
  std::vector<chart_line> lines;
};

/// Charts below each other, two in a row, as one SVG document.
std::string render_svg(const std::vector<chart>& charts);

} // namespace troupe::cli
