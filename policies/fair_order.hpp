#pragma once
#include <functional>
#include <memory>

#include "policies/fair_monitor.hpp"
#include "policies/fair_vtc.hpp"
#include "policies/queue_order.hpp"

namespace troupe::policies {

/// The sequences that wait for one model, in the order of a virtual token counter, and what those
/// that run are charged. Resumed ones come before all turns.
class fair_order final : public queue_order {
public:
  explicit fair_order(const vtc_config& config = {});
  void push(const waiting_sequence& sequence) override;
  std::optional<waiting_sequence> pop() override;
  /// The same, but a tenant that may not take what is free holds its class back, except for tenants
  /// with the same counter: among equals any order is fair.
  using permission = std::function<bool(const fair_share& tenant)>;
  std::optional<waiting_sequence> pop(const permission& may_take);
  /// Takes back what waits; what runs goes on: see finish().
  bool erase(sequence_id id) override;
  bool contains(sequence_id id) const override;
  size_t size() const override { return by_time_.size(); }
  std::optional<instant> oldest() const override;
  /// Resumed ones first, then by the time of acceptance: a turn is only known when it comes.
  std::vector<waiting_sequence> list() const override;

  /// About how many of those that wait will be taken before the last `count` of `tenant`'s line:
  /// with every turn of its own, others have as many as their weights say.
  size_t ahead_of(const fair_share& tenant, size_t count) const;

  /// A popped sequence has made `tokens`; `reused` of its prompt's tokens were in the prefix cache.
  void charge(sequence_id id, uint32_t tokens, uint32_t reused);
  /// A popped sequence runs no more.
  void finish(sequence_id id);

  /// What was rendered since the last call, by tenant.
  struct service {
    fair_priority priority = fair_priority::standard;
    uint64_t tenant = 0;
    double amount = 0; ///< divided by weight
  };
  std::vector<service> take_services();
  /// A tenant that waits here was served for another model. Its debt here ends at `debt_max`.
  void served_elsewhere(const service& x, double debt_max);
  /// How far tenants that wait all the time have drifted apart, against the bound.
  std::vector<pair_drift> drifts() const { return monitor_.pairs(largest_charge()); }

private:
  using time_order = std::tuple<bool, instant, sequence_id>; // false sorts first: resumed
  struct entry {
    waiting_sequence sequence;
    uint64_t ticket = 0; ///< its id in the counter
    bool running = false;
  };
  static time_order time_of(const waiting_sequence& x) { return {!x.resumed, x.accepted, x.id}; }
  void note_waiting(const waiting_sequence& x, int change);
  std::optional<uint64_t> next_ticket(const permission& may_take);
  waiting_sequence take(uint64_t ticket);
  double largest_charge() const;

  /// On the heap: the counter reports to it, wherever this object is moved to.
  struct ledger {
    virtual_token_counter counter;
    std::vector<service> services;
  };
  fair_cost cost_;
  std::unique_ptr<ledger> ledger_;
  std::map<sequence_id, entry> entries_;
  std::map<uint64_t, sequence_id> by_ticket_;
  std::map<time_order, sequence_id> by_time_; ///< those that wait
  std::multiset<instant> since_;
  struct line {
    uint32_t sequences = 0;
    double weight = 1;
  };
  std::map<uint64_t, line> waiting_of_; ///< by tenant
  fair_monitor monitor_;
  uint64_t last_ticket_ = 0;
  uint64_t reserved_tokens_ = 0; ///< that running sequences may come to hold
  uint64_t reserved_max_ = 0;    ///< the most that it has been
};

} // namespace troupe::policies
