#pragma once
#include <cstdint>
#include <string>

#include "config/settings.hpp"

/// Where a server of some settings is reached from this machine.
namespace troupe::cli {

/// "http://127.0.0.1:11500"; `port` is the one that it listens at.
std::string api_url(const config::settings& settings, uint16_t port);
/// Of the routes below /admin, wherever they are; `port` of their own listener, if they have one.
std::string admin_url(const config::settings& settings, uint16_t port);

/// Where the commands that ask a server go unless told otherwise; empty if the settings do not say:
/// they take any free port.
std::string admin_url(const config::settings& settings);

} // namespace troupe::cli
