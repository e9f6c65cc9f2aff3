#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "actors/ledger.hpp"
#include "config/settings.hpp"

/// What outlives a server.
namespace troupe::cli {

/// Where it lies; nothing when none is kept. Fails if it cannot be told.
caf::expected<std::optional<std::filesystem::path>> state_dir(const config::settings& settings);

/// Whether servers of these settings ask the state_dir for keys: only those that know tenants do,
/// for others may share the directory.
bool keeps_keys(const config::settings& settings);

struct kept_ledger {
  std::shared_ptr<actors::ledger> ledger; ///< null: nothing is to be kept
  /// Call with settings that are about to be applied: what their tenants use is written from then
  /// on. Set where `ledger` is.
  std::function<caf::error(const config::settings&)> open;
};
/// Starts the ledger. As long as there have never been tenants it has no file, and keeps nothing.
caf::expected<kept_ledger> open_ledger(const config::settings& settings,
                                       std::shared_ptr<const actors::tenant_registry> tenants);

} // namespace troupe::cli
