#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cli/reload.hpp"
#include "cli/serve_options.hpp"
#include "config/settings.hpp"
#include "storage/catalog.hpp"

namespace troupe::cli {

/// `troupe serve`: runs until SIGTERM or SIGINT, drains, and returns the exit code. A second signal
/// exits at once with 128 + its number.
/// Tenants and keys follow their configuration: on SIGHUP, and when its file changes. Keys that are
/// kept in state_dir are taken and revoked within a second.
int serve(const config::settings& settings, const settings_source& source,
          const serve_options& options);

struct listening_ports {
  uint16_t api = 0;
  uint16_t admin = 0, cluster = 0; ///< 0 = none
};
/// What `serve` prints once it listens: URL, role, models, what was skipped, a line to paste.
std::string welcome_text(const config::settings& settings, const storage::catalog& found,
                         listening_ports ports, bool colour);

} // namespace troupe::cli
