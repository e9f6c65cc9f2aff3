#pragma once
#include <deque>
#include <list>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "policies/fair_queue.hpp"
#include "policies/fair_requests.hpp"

namespace troupe::policies {

/// First come, first served. With a rate limit it is the baseline "RPM": a tenant that has had
/// `arrivals_max` requests accepted within the last minute is refused.
class fcfs_queue final : public fair_queue {
public:
  explicit fcfs_queue(std::optional<uint32_t> arrivals_max = {}) : arrivals_max_{arrivals_max} {}
  fair_arrival arrive(const fair_request& request, instant now) override;
  const fair_request* next() override;
  std::optional<fair_request> take() override;
  bool remove(uint64_t id) override;
  void charge(uint64_t, uint32_t) override {}
  void finish(uint64_t id) override;
  size_t waiting() const override { return waiting_; }
  size_t tenants() const override { return accepted_.size(); }

private:
  void forget_old(instant now);

  std::optional<uint32_t> arrivals_max_;
  fair_requests requests_;
  fair_requests::line line_;
  size_t waiting_ = 0;
  std::unordered_map<uint64_t, uint32_t> accepted_; ///< within the last minute
  std::deque<std::pair<instant, uint64_t>> recent_;
};

/// Deficit round robin as arXiv 2401.00588 compares with: a tenant whose deficit is above 0 is
/// admitted from, input and output are charged to the deficit, and a tenant is given `quantum` when
/// its turn comes and it has none left.
class deficit_round_robin final : public fair_queue {
public:
  /// `cost` is valid, `quantum` above 0.
  deficit_round_robin(fair_cost cost, double quantum) : cost_{cost}, quantum_{quantum} {}
  fair_arrival arrive(const fair_request& request, instant now) override;
  const fair_request* next() override;
  std::optional<fair_request> take() override;
  bool remove(uint64_t id) override;
  void charge(uint64_t id, uint32_t tokens) override;
  void finish(uint64_t id) override;
  size_t waiting() const override { return waiting_; }
  size_t tenants() const override { return tenants_.size(); }

private:
  struct tenant {
    uint64_t id = 0;
    double weight = 1;
    double deficit = 0;
    fair_requests::line line;
    uint32_t running = 0;
    std::list<uint64_t>::iterator turn; ///< valid while its line is not empty
  };
  void unlink(tenant& from, uint32_t slot);
  void forget(const tenant& x);
  tenant& owner(uint32_t slot) { return tenants_.at(requests_.at(slot).request.shares[0].id); }

  fair_cost cost_;
  double quantum_;
  fair_requests requests_;
  std::unordered_map<uint64_t, tenant> tenants_;
  std::list<uint64_t> turns_; ///< tenants that wait
  size_t waiting_ = 0;
};

/// A queue by its name: fcfs, lcf, vtc, vtc-predict, rpm-N, drr, drr-N (quantum). Null for any
/// other name. `pool_tokens` sets the quantum of drr to a twentieth of it.
std::unique_ptr<fair_queue> make_fair_queue(std::string_view name, const fair_cost& cost,
                                            uint64_t pool_tokens);

} // namespace troupe::policies
