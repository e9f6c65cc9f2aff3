#pragma once
#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "actors/request.hpp"
#include "base/sha256.hpp"
#include "policies/budget.hpp"
#include "policies/fair_queue.hpp"
#include "policies/quota.hpp"
#include "storage/state/usage_store.hpp"

namespace troupe::actors {

using policies::wall_time;

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
  policies::tenant_caps caps{}; ///< enforced as everything else
  uint32_t max_tokens = 0;      ///< of one answer; 0 = no limit
  policies::budget_terms budget{};
  bool enforce = true; ///< false: what is over a limit is only counted
};

/// What a tenant has left, and what it has used so far.
struct tenant_usage {
  policies::quota_limits limits;
  uint64_t requests_left = 0, tokens_left = 0; ///< of a minute; only where there is a limit
  duration requests_reset{0}, tokens_reset{0};
  uint64_t running = 0;
  uint64_t requests = 0, prompt_tokens = 0, completion_tokens = 0; ///< since the start
  uint64_t refused = 0;                                            ///< or would have been
  std::array<uint64_t, policies::quota_kinds> refused_by{};        ///< the same by limit
  policies::budget_terms budget;
  double spent = 0; ///< of the budget, in its own unit
  bool past_soft_limit = false;
  wall_time budget_relief{};
};

/// One tenant's terms and accounts. Any thread.
class tenant {
public:
  explicit tenant(tenant_terms terms);
  const std::string& name() const { return name_; }
  std::shared_ptr<const tenant_terms> terms() const;
  /// What counts goes on counting; a budget with other terms begins with nothing spent: see
  /// restore(). The name stays.
  void set_terms(tenant_terms terms);
  /// What the budget has to hold for since when; nothing without one.
  std::optional<wall_time> budget_from(wall_time now) const;
  /// Sets what is spent of the budget to these rows, which are this tenant's, and what is not in
  /// the ledger yet.
  void restore(std::span<const storage::usage_row> rows);

  tenant_usage usage(instant now, wall_time wall) const;
  /// What is not in the ledger yet; it counts as written from now on.
  std::vector<storage::usage_row> take_unwritten();
  /// Rows that could not be written after all.
  void put_back(const std::vector<storage::usage_row>& rows);
  bool nothing_unwritten() const;
  /// A request was over this limit, as somebody else found.
  void note_refused(policies::quota_kind limit);
  /// What a request is told whose tenant has spent its budget.
  policies::quota_refusal budget_refusal(wall_time now) const;

private:
  friend class quota_ticket;
  policies::quota_refusal refuse_by_budget(wall_time now) const;
  void note(const storage::usage_row& used);
  void count_refused(policies::quota_kind limit) { ++refused_[static_cast<size_t>(limit)]; }
  double cost(const storage::usage_row& of) const;
  const tenant_terms& held() const { return *terms_; }

  const std::string name_;
  mutable std::mutex lock_; ///< guards what follows
  std::shared_ptr<const tenant_terms> terms_;
  policies::quota quota_;
  mutable policies::budget budget_;
  double promised_ = 0; ///< what the prompts cost that are let in and not charged yet
  uint64_t requests_ = 0, prompt_tokens_ = 0, completion_tokens_ = 0;
  std::array<uint64_t, policies::quota_kinds> refused_{};
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
  begin(std::shared_ptr<tenant> who, instant now, wall_time wall);
  ~quota_ticket();
  quota_ticket(const quota_ticket&) = delete;
  /// Before it runs: its prompt, and the most that its answers may have.
  std::optional<policies::quota_refusal> reserve(uint64_t prompt_tokens, uint64_t answer_max,
                                                 instant now, wall_time wall);
  /// What it has used so far; noted at once, so that little is lost with this process. False, and
  /// nothing is noted, if the tenant's budget was spent before: the request must end. At its `end`
  /// everything is noted.
  bool used(const usage& so_far, const std::string& model, wall_time now, bool end = false);
  /// It was refused before anything was computed: its prompt costs nothing.
  void never_ran() { prompt_tokens_ = 0; }

private:
  explicit quota_ticket(std::shared_ptr<tenant> who) : who_{std::move(who)} {}
  std::shared_ptr<tenant> who_;
  policies::quota::reservation reserved_{};
  uint64_t prompt_tokens_ = 0;
  double promised_ = 0;
  bool shadowed_ = false; ///< it holds no place: its tenant's limits are only watched
  bool over_ = false;     ///< it went on beyond a budget that is only watched
  std::optional<actors::usage> used_;
};

} // namespace troupe::actors
