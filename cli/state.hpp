#pragma once
#include <filesystem>
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

/// Starts the ledger of these tenants; null when none is configured, or nothing is to be kept.
caf::expected<std::shared_ptr<actors::ledger>>
open_ledger(const config::settings& settings,
            std::shared_ptr<const actors::tenant_registry> tenants);

} // namespace troupe::cli
