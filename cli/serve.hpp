#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cli/reload.hpp"
#include "config/settings.hpp"
#include "storage/catalog.hpp"

namespace troupe::cli {

/// `troupe serve`: runs until SIGTERM or SIGINT, drains, and returns the exit code. A second signal
/// exits at once with 128 + its number. With `profile` it ends by printing, on standard error, what
/// every op of its worker cost.
/// Tenants and keys follow their configuration: on SIGHUP, and when its file changes. Keys that are
/// kept in state_dir are taken and revoked within a second.
int serve(const config::settings& settings, const settings_source& source,
          const std::vector<std::string>& named, const std::string& port_file,
          bool profile = false);

/// What `serve` prints once it listens: URL, role, models, what was skipped, a line to paste.
std::string welcome_text(const config::settings& settings, const storage::catalog& found,
                         uint16_t port, uint16_t cluster_port, bool colour);

} // namespace troupe::cli
