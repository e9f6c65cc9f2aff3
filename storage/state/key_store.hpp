#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/sha256.hpp"

namespace troupe::storage {

/// A key of the API, kept beside the configuration. The key itself is nowhere.
struct stored_key {
  std::string id;     ///< for people to name it by; says nothing about the key
  std::string tenant; ///< empty = the administrator's
  std::string name;   ///< for people
  sha256_digest hash{};
  std::vector<std::string> models; ///< names or globs; empty = all that its tenant may use
  std::chrono::sys_seconds created{};
  std::optional<std::chrono::sys_seconds> expires, revoked;
  bool operator==(const stored_key&) const = default;
};

/// Keys that are made and revoked while servers run. Calls block on the disk; one thread at a time.
/// What one user of the file has done is seen by every other one's next call.
class key_store {
public:
  virtual ~key_store() = default;
  /// Fails with errc::no_space where there are keys_max, with errc::inconsistent if its id or hash
  /// is there already. Forgets keys that have not been good for `memory`, before `key.created`.
  virtual caf::error add(const stored_key& key) = 0;
  /// What `id` is now; a key that was revoked before stays as it was. Fails with errc::not_found.
  virtual caf::expected<stored_key> revoke(const std::string& id, std::chrono::sys_seconds at) = 0;
  /// By their creation, also those that are no longer good.
  virtual caf::expected<std::vector<stored_key>> all() = 0;
  /// Another number than before once somebody else has changed something; costs microseconds.
  virtual caf::expected<int64_t> version() = 0;

  static constexpr size_t keys_max = 10'000;
  static constexpr auto memory = std::chrono::hours{30 * 24};
};

/// In a file `keys.db` of that directory, which is made if it is missing. Several processes may
/// share it.
caf::expected<std::unique_ptr<key_store>> open_key_store(const std::filesystem::path& dir);

} // namespace troupe::storage
