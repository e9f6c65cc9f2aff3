#pragma once
#include <string>

namespace troupe::actors {

/// One line to the program's log. Any thread. Never a prompt or an answer.
void log_info(const std::string& line);
void log_warning(const std::string& line);
void log_error(const std::string& line);

} // namespace troupe::actors
