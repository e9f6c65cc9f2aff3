#pragma once
#include <array>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "policies/fair_queue.hpp"
#include "policies/fair_requests.hpp"
#include "policies/indexed_heap.hpp"

namespace troupe::policies {

struct vtc_config {
  fair_cost cost{};
  /// How many of a request's shares count: 1 = organisations alone.
  uint32_t levels = 1;
  /// Who comes back is lifted. Without it the queue is the baseline "least counter first".
  bool lift = true;
  /// Requests without a prediction are expected to be as long as their tenant's lately were.
  bool predict = false;
  /// A lower class goes first once it was passed over this often in a row; 0 = it never does.
  uint32_t passed_over_max = 0;
  /// Idle tenants below one parent that are remembered for their debt.
  size_t idle_max = 1u << 20;
};

/// Virtual Token Counter (arXiv 2401.00588, Algorithm 2): the tenant with the least counter goes
/// next, on every level of the hierarchy. With both lift clauses (who comes back starts from the
/// least counter that waits, or from that of the last tenant that left when none waits), weights,
/// any cost function, cached input at its own price, and length prediction with refund. How far two
/// tenants can drift apart: drift_bound in fair_cost.hpp.
///
/// Tenants are kept while they wait, run, or have a counter above the level to which they would be
/// lifted anyway; forgetting the others changes nothing (an organisation that is forgotten takes
/// with it what its idle users owed each other). Beyond `idle_max` the one with the least debt is
/// forgotten and newcomers start from its counter, so that nobody gains by it.
///
/// Each class of priority has its own counters. Choosing, charging and arriving cost
/// O(levels * log tenants that wait).
class virtual_token_counter final : public fair_queue {
public:
  /// `config.cost` is valid, `config.levels` within 1 to fair_levels_max.
  explicit virtual_token_counter(vtc_config config = {});

  fair_arrival arrive(const fair_request& request, instant now) override;
  const fair_request* next() override;
  std::optional<fair_request> take() override;
  bool remove(uint64_t id) override;
  void charge(uint64_t id, uint32_t tokens) override;
  void finish(uint64_t id) override;
  size_t waiting() const override { return waiting_; }
  size_t tenants() const override { return nodes_.size() - free_nodes_.size(); }

  /// Counter of a tenant: what it was charged and lifted, divided by its weight. Unset when it is
  /// not remembered. Deeper levels: the path from the organisation on.
  std::optional<double> counter(fair_priority priority, std::span<const uint64_t> path) const;

  /// Takes a request that waits although it is not its turn. The bound does not cover its cost.
  std::optional<fair_request> take_out_of_turn(uint64_t id);
  /// More of a running request's input was cached than it said: the difference is given back.
  void found_cached(uint64_t id, uint32_t cached_tokens);

  // Several schedulers for the same tenants: see fair_exchange.hpp. Organisations only.

  /// Called with every organisation's real service, divided by its weight, as it is rendered.
  using service_listener = std::function<void(fair_priority, uint64_t organisation, double)>;
  void on_service(service_listener listener) { listener_ = std::move(listener); }
  /// An organisation was served elsewhere: `service` (divided by its weight) more than known here.
  /// Its debt over the lift level ends at `debt_max`.
  void served_elsewhere(fair_priority priority, uint64_t organisation, double service,
                        double debt_max);
  /// Its counter, without what is prepaid, is at least `level`.
  void raise(fair_priority priority, uint64_t organisation, double level);
  /// Who comes back is lifted to at least this as well.
  void raise_entry(fair_priority priority, double level);
  /// The least counter among organisations that wait, if any does.
  std::optional<double> floor(fair_priority priority) const;
  /// The level to which who comes back is lifted.
  double entry_level(fair_priority priority) const { return lift_level(groups_[index(priority)]); }
  /// An organisation's counter without what is prepaid, if it is remembered.
  std::optional<double> level(fair_priority priority, uint64_t organisation) const;
  /// All remembered organisations with their counters without what is prepaid.
  std::vector<std::pair<uint64_t, double>> levels(fair_priority priority) const;

private:
  static constexpr uint32_t none = id_table::none;
  /// A tenant on some level. In its group's `turns` while it waits, in `idle` while it only has
  /// debt.
  struct alignas(64) node { // one cache line
    uint64_t id = 0;
    double counter = 0;
    double prepaid = 0;      ///< part of the counter for tokens that are still to come
    uint32_t group = none;   ///< the one it is a member of
    uint32_t members = none; ///< the group below it; leaves have a line of requests instead
    uint32_t waiting = 0;
    uint32_t running = 0;
    double expected = 0; ///< leaves: moving average of output lengths
    fair_requests::line line;
  };
  /// Siblings.
  struct group {
    uint32_t parent = none; ///< node
    uint32_t last = none;   ///< the last member that stopped waiting
    double level = 0;       ///< V: the greatest floor so far
    double entry = 0;       ///< what newcomers start from at least
    indexed_heap turns;
    indexed_heap idle;
  };

  static size_t index(fair_priority priority) { return static_cast<size_t>(priority); }
  static uint64_t hash(uint32_t group, uint64_t id) { return mix_bits(id ^ mix_bits(group)); }
  uint32_t find(uint32_t group, uint64_t id) const;
  uint32_t find_or_add(uint32_t group, uint64_t id, bool leaf);
  uint32_t add_node(uint32_t group, uint64_t id, bool leaf);
  uint32_t leaf_of(const fair_request& request);
  double lift_level(const group& x) const;
  void raise_level(group& x);
  void join(uint32_t which);
  void leave(uint32_t which);
  void add(uint32_t which, double charged, double prepaid);
  void rest(uint32_t which);
  void drop(uint32_t which);
  void forget_paid(group& x);
  size_t next_class() const;
  uint32_t next_slot() const;
  fair_request take_slot(uint32_t slot);
  void look_ahead(bool is_near) const;
  void charge_path(const fair_requests::entry& x, double charged, double prepaid, double service);

  vtc_config config_;
  fair_requests requests_;
  std::vector<node> nodes_;
  std::vector<uint32_t> free_nodes_;
  indexed_heap::places places_; ///< by node
  std::vector<group> groups_;   ///< the first three are the roots, one per priority
  std::vector<uint32_t> free_groups_;
  id_table table_;
  size_t waiting_ = 0;
  std::array<uint32_t, fair_priorities> passed_over_{};
  service_listener listener_;
};

} // namespace troupe::policies
