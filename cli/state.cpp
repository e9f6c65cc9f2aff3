#include "cli/state.hpp"

#include <cstdlib>

#include "config/errors.hpp"

namespace troupe::cli {

caf::expected<std::optional<std::filesystem::path>> state_dir(const config::settings& settings) {
  if (settings.state_dir == "off")
    return std::optional<std::filesystem::path>{};
  if (settings.state_dir != "on")
    return std::optional<std::filesystem::path>{settings.state_dir};
  const auto variable = [](const char* name) {
    const char* held = std::getenv(name);
    return std::filesystem::path{held ? held : ""};
  };
  if (const auto home = variable("XDG_STATE_HOME"); home.is_absolute())
    return std::optional{home / "troupe"};
  if (const auto home = variable("HOME"); home.is_absolute())
    return std::optional{home / ".local" / "state" / "troupe"};
  return caf::make_error(config::errc::invalid_value,
                         "neither XDG_STATE_HOME nor HOME says where keys and the usage of tenants "
                         "are to be kept: set state_dir to a directory, or to false");
}

bool keeps_keys(const config::settings& settings) { return !settings.tenants.empty(); }

caf::expected<std::shared_ptr<actors::ledger>>
open_ledger(const config::settings& settings,
            std::shared_ptr<const actors::tenant_registry> tenants) {
  if (settings.tenants.empty())
    return std::shared_ptr<actors::ledger>{};
  const auto dir = state_dir(settings);
  if (!dir)
    return dir.error();
  if (!*dir)
    return std::shared_ptr<actors::ledger>{};
  auto store = storage::open_usage_store(**dir);
  if (!store)
    return std::move(store.error());
  return actors::ledger::start(std::move(*store), std::move(tenants));
}

} // namespace troupe::cli
