#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace troupe::policies {

/// Two tenants that both wait: how much the difference of their services, each divided by its
/// weight, has varied since both began to, and how much it may.
struct pair_drift {
  std::string first, second;
  double drift = 0;
  double bound = 0;
};

/// Watches whether the bound of fair_cost.hpp holds in a running system. At most `tenants_max`
/// tenants are watched at a time, those that have waited longest.
class fair_monitor {
public:
  explicit fair_monitor(size_t tenants_max = 6) : tenants_max_{tenants_max} {}
  void waits(uint64_t tenant, double weight, const std::string& name);
  void left(uint64_t tenant);
  /// `cost` not divided by its weight; of tenants that are not watched it is ignored.
  void served(uint64_t tenant, double cost);
  /// `charge_max`: U of charge_after_admission_max.
  std::vector<pair_drift> pairs(double charge_max) const;

private:
  struct watched {
    std::string name;
    double weight = 1;
    double service = 0; ///< since it is watched, divided by weight
  };
  struct range {
    double low = 0, high = 0;
  };
  size_t tenants_max_;
  std::map<uint64_t, watched> tenants_;
  std::map<std::pair<uint64_t, uint64_t>, range> pairs_; ///< smaller id first
};

} // namespace troupe::policies
