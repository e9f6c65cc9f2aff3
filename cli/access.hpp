#pragma once
#include <string>
#include <vector>

#include "actors/tenant_registry.hpp"
#include "config/settings.hpp"
#include "storage/state/key_store.hpp"

/// Keys and tenants on the command line and from settings.
namespace troupe::cli {

struct agreed_terms {
  std::vector<actors::tenant_terms> tenants;
  std::vector<actors::access_key> admin_keys;
};
/// Settings -> terms. Keys that are named by variable or file are read here; fails with what is
/// missing.
caf::expected<agreed_terms> terms_of(const config::settings& settings);

/// A key that the server keeps, as the registry takes it.
actors::issued_key issued_key_of(const storage::stored_key& from);

/// `troupe keys hash`: reads a key from standard input and prints its hash.
int hash_key();

} // namespace troupe::cli
