#pragma once
#include <string>

namespace troupe::cli {

/// Log lines go to standard error from here on. `level`: trace ... off; `format`: text or json, one
/// object a line with time, level and message.
void start_logging(const std::string& level, const std::string& format);

} // namespace troupe::cli
