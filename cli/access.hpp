#pragma once
#include <memory>
#include <string>

#include "actors/tenant_registry.hpp"
#include "config/settings.hpp"

/// Keys and tenants on the command line and from settings.
namespace troupe::cli {

/// Settings -> terms. Keys that are named by variable or file are read here; fails with what is
/// missing.
caf::expected<std::shared_ptr<const actors::tenant_registry>>
tenants_of(const config::settings& settings);

/// `troupe keys create`: prints a new key once, and the lines that make it `tenant`'s.
int create_key(const std::string& tenant, const std::string& name, bool json);

/// `troupe keys hash`: reads a key from standard input and prints its hash.
int hash_key();

} // namespace troupe::cli
