#pragma once
#include <string>
#include <vector>

namespace troupe::cli {

/// Left-aligned columns, four spaces apart, no borders; the first row is the heading, bold with
/// `colour`. Control characters in cells become '?', so that a name cannot drive the terminal.
std::string render_table(const std::vector<std::vector<std::string>>& rows, bool colour = false);

} // namespace troupe::cli
