#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "actors/ledger.hpp"
#include "actors/tenant_registry.hpp"
#include "config/load.hpp"

namespace troupe::cli {

/// Reads the settings again, as they were read at the start: file, environment, flags.
struct settings_source {
  std::optional<std::filesystem::path> file;
  std::function<caf::expected<config::loaded_settings>()> load;
};

/// Puts tenants, keys and admin_keys of a changed configuration into a running server: all of them
/// or, when anything is wrong with it, none. One thread.
class tenant_reloader {
public:
  /// `ledger` may be null. `running`: what the server was started with.
  tenant_reloader(settings_source source, config::settings running,
                  std::shared_ptr<actors::tenant_registry> tenants,
                  std::shared_ptr<actors::ledger> ledger);
  /// Reloads when the file is another than before and has been left alone since the last look.
  void look();
  void reload();

private:
  struct stamp {
    std::filesystem::file_time_type written{};
    uintmax_t size = 0;
    bool operator==(const stamp&) const = default;
  };
  stamp stamp_now() const;
  caf::error apply(const config::settings& next);

  settings_source source_;
  config::settings running_;
  std::shared_ptr<actors::tenant_registry> tenants_;
  std::shared_ptr<actors::ledger> ledger_;
  stamp applied_, seen_;
};

} // namespace troupe::cli
