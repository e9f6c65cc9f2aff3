#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "actors/ledger.hpp"
#include "actors/tenant_registry.hpp"
#include "cli/key_watch.hpp"
#include "config/load.hpp"

namespace troupe::cli {

/// Reads the settings again, as they were read at the start: file, environment, flags.
struct settings_source {
  std::optional<std::filesystem::path> file;
  std::function<caf::expected<config::loaded_settings>()> load;
};

/// Puts tenants, keys and admin_keys of a changed configuration into a running server: all of them
/// or, when anything is wrong with it, none; and what happens to keys that are kept beside it. One
/// thread.
class tenant_reloader {
public:
  /// `ledger` may be null; `keys` outlives this. `running`: what the server was started with.
  tenant_reloader(settings_source source, config::settings running,
                  std::shared_ptr<actors::tenant_registry> tenants,
                  std::shared_ptr<actors::ledger> ledger, key_watch& keys);
  /// Call every look_interval. Takes over changes of kept keys at once, and the file's when it has
  /// been left alone for a second.
  void look();
  static constexpr auto look_interval = std::chrono::milliseconds{250};
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
  key_watch& keys_;
  stamp applied_, seen_;
  uint64_t looks_ = 0;
};

} // namespace troupe::cli
