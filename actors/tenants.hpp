#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "actors/request.hpp"
#include "base/sha256.hpp"
#include "policies/fair_queue.hpp"
#include "policies/quota.hpp"
#include "storage/state/usage_store.hpp"

namespace troupe::actors {

using wall_time = std::chrono::system_clock::time_point;

/// The key itself is nowhere: who sees this cannot use it.
struct access_key {
  sha256_digest hash{};
  std::string name; ///< for people
  std::optional<wall_time> expires;
};

/// What was agreed with a tenant.
struct tenant_terms {
  std::string name;
  std::vector<access_key> keys{};
  /// Whether a model of this name may be used; unset = all.
  std::function<bool(const std::string&)> may_use{};
  double weight = 1; ///< finite and above 0
  policies::fair_priority priority = policies::fair_priority::standard;
  policies::quota_limits limits{};
  uint32_t max_tokens = 0; ///< of one answer; 0 = no limit
  bool enforce = true;     ///< false: what is over a limit is only counted
};

/// What a tenant has left, and what it has used so far.
struct tenant_usage {
  policies::quota_limits limits;
  uint64_t requests_left = 0, tokens_left = 0; ///< of a minute; only where there is a limit
  duration requests_reset{0}, tokens_reset{0};
  uint64_t running = 0;
  uint64_t requests = 0, prompt_tokens = 0, completion_tokens = 0; ///< since the start
  uint64_t refused = 0;                                            ///< or would have been
};

/// One tenant's terms and accounts. Any thread.
class tenant {
public:
  explicit tenant(tenant_terms terms) : terms_{std::move(terms)}, quota_{terms_.limits} {}
  const tenant_terms& terms() const { return terms_; }
  tenant_usage usage(instant now) const;
  /// What is not in the ledger yet; it counts as written from now on.
  std::vector<storage::usage_row> take_unwritten();
  /// Rows that could not be written after all.
  void put_back(std::vector<storage::usage_row> rows);

private:
  friend class quota_ticket;
  void note(const storage::usage_row& used);
  const tenant_terms terms_;
  mutable std::mutex lock_; ///< guards what follows
  policies::quota quota_;
  uint64_t requests_ = 0, prompt_tokens_ = 0, completion_tokens_ = 0, refused_ = 0;
  /// One row per model and hour.
  static constexpr size_t unwritten_max = 10'000;
  std::vector<storage::usage_row> unwritten_;
};

/// One request's place in a tenant's quota: given back, and its tokens settled, when it is gone.
/// Calls come one at a time.
class quota_ticket {
public:
  /// Counts a request that begins.
  static std::variant<std::unique_ptr<quota_ticket>, policies::quota_refusal>
  begin(std::shared_ptr<tenant> who, instant now);
  ~quota_ticket();
  quota_ticket(const quota_ticket&) = delete;
  /// Before it runs: its prompt, and the most that its answers may have.
  std::optional<policies::quota_refusal> reserve(uint64_t prompt_tokens, uint64_t answer_max,
                                                 instant now);
  /// What it has used so far; noted at once, so that little is lost with this process.
  void used(const usage& so_far, const std::string& model, wall_time now);

private:
  explicit quota_ticket(std::shared_ptr<tenant> who) : who_{std::move(who)} {}
  std::shared_ptr<tenant> who_;
  policies::quota::reservation reserved_{};
  uint64_t prompt_tokens_ = 0;
  bool shadowed_ = false; ///< it holds no place: its tenant's limits are only watched
  std::optional<actors::usage> used_;
};

/// Everybody who may use the API.
class tenant_registry {
public:
  /// Without a key anywhere, every request is `fallback`'s, which may be one of `tenants`.
  explicit tenant_registry(std::vector<tenant_terms> tenants = {},
                           std::string fallback = "anonymous",
                           std::vector<access_key> admin_keys = {});
  /// True while no key is asked for.
  bool open() const { return !closed_; }
  bool has_admin_keys() const { return !admin_keys_.empty(); }
  enum class verdict : uint8_t { welcome, no_key, unknown_key, expired };
  struct answer {
    verdict what = verdict::no_key;
    std::shared_ptr<tenant> who; ///< null for the administrator
    bool admin = false;
  };
  /// `key` as the client sent it; it is neither kept nor shown. Every known key is looked at,
  /// wherever the right one stands.
  answer authenticate(std::string_view key, wall_time now) const;
  const std::vector<std::shared_ptr<tenant>>& all() const { return tenants_; }

private:
  std::vector<std::shared_ptr<tenant>> tenants_;
  std::shared_ptr<tenant> fallback_;
  std::vector<access_key> admin_keys_;
  bool closed_ = false;
};

} // namespace troupe::actors
