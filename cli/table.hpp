#pragma once
#include <string>
#include <vector>

namespace troupe::cli {

/// Left-aligned columns, four spaces apart, no borders; the first row is the heading, bold with
/// `colour`. Control characters in cells become '?', so that a name cannot drive the terminal.
std::string render_table(const std::vector<std::vector<std::string>>& rows, bool colour = false);

/// A figure to three digits that matter: "1270", "31.2", "0.0480".
std::string three_digits(double value);

} // namespace troupe::cli
