#pragma once
#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "policies/fair_vtc.hpp"

/// An engine with a pool of tokens, tenants that come, go and withdraw, and a judge that knows
/// nothing of counters: it adds up what each was really served.
namespace troupe::policies::testing_fair {

/// For every pair of tenants: how much the difference of their services (divided by weight) has
/// varied since both began to wait.
class drift_judge {
public:
  explicit drift_judge(std::vector<double> weights)
      : weights_{std::move(weights)}, served_(weights_.size()), waits_(weights_.size()),
        pairs_(weights_.size() * weights_.size()) {}
  void served(size_t tenant, double cost) { served_[tenant] += cost / weights_[tenant]; }
  /// Call after every change. Returns the worst drift / bound(w_f, w_g) among waiting pairs.
  template <class Waits, class Bound>
  double look(Waits waits, Bound bound) {
    double worst = 0;
    for (size_t f = 0; f < weights_.size(); ++f)
      waits_[f] = waits(f);
    for (size_t f = 0; f < weights_.size(); ++f)
      for (size_t g = 0; g < f; ++g) {
        auto& x = pairs_[f * weights_.size() + g];
        const auto gap = served_[f] - served_[g];
        if (!waits_[f] || !waits_[g]) {
          x.both = false;
          continue;
        }
        if (!x.both)
          x = {true, gap, gap};
        x.low = std::min(x.low, gap);
        x.high = std::max(x.high, gap);
        worst = std::max(worst, (x.high - x.low) / bound(weights_[f], weights_[g]));
      }
    return worst;
  }
  double service(size_t tenant) const { return served_[tenant]; }

private:
  struct pair {
    bool both = false;
    double low = 0, high = 0;
  };
  std::vector<double> weights_, served_;
  std::vector<bool> waits_;
  std::vector<pair> pairs_;
};

/// Admits while the worst case of all that runs fits, one token per request and step.
class toy_engine {
public:
  toy_engine(fair_queue& queue, const fair_cost& cost, uint64_t pool)
      : queue_{queue}, cost_{cost}, pool_{pool} {}

  struct plan {
    size_t tenant = 0;
    uint32_t output = 1; ///< what it will make; at most output_max
  };
  fair_arrival submit(const fair_request& request, plan what) {
    const auto said = queue_.arrive(request, {});
    if (said == fair_arrival::queued)
      plans_[request.id] = what;
    return said;
  }
  bool withdraw(uint64_t id) { return queue_.remove(id) && plans_.erase(id) > 0; }

  /// `served(tenant, cost)` hears of all that is rendered, `admitted(tenant)` of admissions.
  template <class Served, class Admitted>
  void step(Served served, Admitted admitted) {
    while (const auto* next = queue_.next()) {
      const auto size = uint64_t{next->input_tokens} + next->output_max;
      if (used_ + size > pool_)
        break;
      const auto request = *queue_.take();
      const auto tenant = plans_.at(request.id).tenant;
      served(tenant, cost_.admission(request.input_tokens, request.cached_tokens));
      used_ += size;
      running_.push_back({request, plans_.at(request.id), 0, size});
      plans_.erase(request.id);
      admitted(tenant);
    }
    for (auto& x : running_) {
      served(x.what.tenant, cost_.decoding(x.request.input_tokens, x.made, x.made + 1));
      queue_.charge(x.request.id, 1);
      if (++x.made < x.what.output)
        continue;
      queue_.finish(x.request.id);
      used_ -= x.size;
    }
    std::erase_if(running_, [](const running& x) { return x.made >= x.what.output; });
  }
  bool waits(uint64_t id) const { return plans_.contains(id); }

private:
  struct running {
    fair_request request;
    plan what;
    uint32_t made = 0;
    uint64_t size = 0;
  };
  fair_queue& queue_;
  fair_cost cost_;
  uint64_t pool_, used_ = 0;
  std::map<uint64_t, plan> plans_;
  std::vector<running> running_;
};

} // namespace troupe::policies::testing_fair
