#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "actors/tenants.hpp"

namespace troupe::actors {

/// A key that is kept beside the configuration, made and revoked while the server runs.
struct issued_key {
  std::string id;
  std::string tenant; ///< empty = the administrator's
  access_key key;
  /// Of what its tenant may use; unset = all.
  std::function<bool(const std::string&)> may_use{};
  bool revoked = false;
};

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
  /// Replaces the keys that are kept beside the configuration. Running requests of a key that goes
  /// or is revoked end in peace, its next one is refused. As long as there is any, good or not,
  /// keys are asked for: revoking the last one lets nobody in.
  void issue(std::vector<issued_key> keys);
  bool has_issued_keys() const;
  /// The names of a tenant's keys that are good, those of the configuration first.
  std::vector<std::string> key_names(const tenant& of, wall_time now) const;
  /// True while no key is asked for.
  bool open() const { return !now()->closed; }
  bool has_admin_keys() const { return now()->administered; }
  enum class verdict : uint8_t { welcome, no_key, unknown_key, expired, revoked };
  struct answer {
    verdict what = verdict::no_key;
    std::shared_ptr<tenant> who; ///< null for the administrator
    bool admin = false;
    std::shared_ptr<const issued_key> key{}; ///< null where the configuration has it
  };
  /// `key` as the client sent it; it is neither kept nor shown. Takes as long for any number of
  /// keys. What a client could learn from the time is the beginning of a hash of what it sent.
  answer authenticate(std::string_view key, wall_time now) const;
  std::vector<std::shared_ptr<tenant>> all() const { return now()->tenants; }
  /// Those, and who has gone but may still have something to be written down.
  std::vector<std::shared_ptr<tenant>> accounts() const;

private:
  struct member {
    std::shared_ptr<tenant> who;
    std::vector<access_key> keys;
  };
  struct issued {
    std::shared_ptr<const issued_key> what;
    std::shared_ptr<tenant> who; ///< null for the administrator
  };
  /// A key by its hash: whose it is.
  struct entry {
    access_key key;
    std::shared_ptr<tenant> who;              ///< null for the administrator
    std::shared_ptr<const issued_key> issued; ///< null where the configuration has it
  };
  struct roster {
    std::vector<std::shared_ptr<tenant>> tenants;
    std::vector<member> members; ///< with the keys that they had when it was made
    std::shared_ptr<tenant> fallback;
    std::vector<issued> issued_keys;               ///< of those that are here
    std::unordered_multimap<uint64_t, entry> keys; ///< all, by the beginning of their hash
    bool closed = false;
    bool administered = false; ///< there is an admin key
  };
  std::shared_ptr<const roster> now() const;
  void rebuild();
  void index(roster& all) const;

  mutable std::mutex lock_;         ///< guards what follows
  std::vector<tenant_terms> terms_; ///< these four: what the roster is made of
  std::string fallback_;
  std::vector<access_key> admin_keys_;
  std::vector<std::shared_ptr<const issued_key>> issued_;
  std::shared_ptr<const roster> roster_ = std::make_shared<const roster>();
  mutable std::vector<std::shared_ptr<tenant>> leaving_;
};

} // namespace troupe::actors
