#include "actors/log.hpp"

#include <spdlog/spdlog.h>

namespace troupe::actors {

void log_info(const std::string& line) { spdlog::info("{}", line); }
void log_warning(const std::string& line) { spdlog::warn("{}", line); }
void log_error(const std::string& line) { spdlog::error("{}", line); }

} // namespace troupe::actors
