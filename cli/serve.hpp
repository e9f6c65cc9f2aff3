#pragma once
#include <string>
#include <vector>

#include "config/settings.hpp"

namespace troupe::cli {

/// `troupe serve`: runs until SIGTERM or SIGINT, drains, and returns the exit code. A second signal
/// exits at once.
int serve(const config::settings& settings, const std::vector<std::string>& named,
          const std::string& port_file);

} // namespace troupe::cli
