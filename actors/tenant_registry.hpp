#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "actors/tenants.hpp"

namespace troupe::actors {

/// Everybody who may use the API. Any thread.
class tenant_registry {
public:
  /// Without a key anywhere, every request is `fallback`'s, which may be one of `tenants`.
  explicit tenant_registry(std::vector<tenant_terms> tenants = {},
                           std::string fallback = "anonymous",
                           std::vector<access_key> admin_keys = {});
  /// Replaces all of it at once. Who stays keeps its accounts; running requests of who goes end in
  /// peace.
  void apply(std::vector<tenant_terms> tenants, std::string fallback,
             std::vector<access_key> admin_keys);
  /// True while no key is asked for.
  bool open() const { return !now()->closed; }
  bool has_admin_keys() const { return !now()->admin_keys.empty(); }
  enum class verdict : uint8_t { welcome, no_key, unknown_key, expired };
  struct answer {
    verdict what = verdict::no_key;
    std::shared_ptr<tenant> who; ///< null for the administrator
    bool admin = false;
  };
  /// `key` as the client sent it; it is neither kept nor shown. Every known key is looked at,
  /// wherever the right one stands.
  answer authenticate(std::string_view key, wall_time now) const;
  std::vector<std::shared_ptr<tenant>> all() const { return now()->tenants; }
  /// Those, and who has gone but may still have something to be written down.
  std::vector<std::shared_ptr<tenant>> accounts() const;

private:
  struct member {
    std::shared_ptr<tenant> who;
    std::vector<access_key> keys;
  };
  struct roster {
    std::vector<std::shared_ptr<tenant>> tenants;
    std::vector<member> members; ///< with the keys that they had when it was made
    std::shared_ptr<tenant> fallback;
    std::vector<access_key> admin_keys;
    bool closed = false;
  };
  std::shared_ptr<const roster> now() const;

  mutable std::mutex lock_; ///< guards what follows
  std::shared_ptr<const roster> roster_ = std::make_shared<const roster>();
  mutable std::vector<std::shared_ptr<tenant>> leaving_;
};

} // namespace troupe::actors
