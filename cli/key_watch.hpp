#pragma once
#include <memory>
#include <optional>

#include "actors/tenant_registry.hpp"
#include "config/settings.hpp"
#include "storage/state/key_store.hpp"

namespace troupe::cli {

/// Brings the keys that are kept in state_dir into a running server: those that are there when it
/// starts, and whatever `troupe keys` does later, from whichever process. One thread.
class key_watch {
public:
  explicit key_watch(std::shared_ptr<actors::tenant_registry> tenants)
      : tenants_{std::move(tenants)} {}
  /// Reads the keys if these settings say that any are kept, and it has not been done before.
  caf::error open(const config::settings& settings);
  /// Takes over what has changed since. What cannot be read leaves the keys as they were.
  void look();

private:
  caf::error read();

  std::shared_ptr<actors::tenant_registry> tenants_;
  std::unique_ptr<storage::key_store> store_;
  std::optional<int64_t> seen_;
  bool failing_ = false;
};

} // namespace troupe::cli
