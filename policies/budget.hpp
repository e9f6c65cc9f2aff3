#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

namespace troupe::policies {

using wall_time = std::chrono::system_clock::time_point;

/// What a token costs, by kind; one that the prefix cache held is `cached` and no `input`.
struct token_prices {
  double input = 1, cached = 1, output = 1;
  bool operator==(const token_prices&) const = default;
};
/// `cached` of the prompt's tokens are counted once, as cached ones.
double cost_of(const token_prices& prices, uint64_t prompt, uint64_t cached, uint64_t completion);

/// What a budget holds for: what began last of a day, a week (Monday) or a month, in UTC; or always
/// the last so many hours, the present one among them, with no edge at which all begins anew.
struct budget_period {
  enum class kind : uint8_t { hours, day, week, month };
  kind what = kind::month;
  uint32_t hours = 0; ///< at least 1, of kind::hours
  bool operator==(const budget_period&) const = default;
};

struct budget_terms {
  double limit = 0; ///< in what `prices` are in; 0 = none
  double soft = 0;  ///< the part of it from which on people are warned; 0 = never
  budget_period period;
  token_prices prices;
  bool operator==(const budget_terms&) const = default;
};

/// What one tenant has spent of a budget, by the hour. Times may go back, as wall clocks do, and as
/// they do when a ledger is read back; hours before the period count for nothing. Holds an entry
/// per hour of a period with any spending.
class budget {
public:
  explicit budget(budget_terms terms) : terms_{terms} {}
  const budget_terms& terms() const { return terms_; }
  bool limited() const { return terms_.limit > 0; }
  /// Counts also beyond the limit: what was used was used.
  void charge(double cost, wall_time when);
  double spent(wall_time now);
  bool over(wall_time now) { return limited() && spent(now) >= terms_.limit; }
  /// Nothing above 0 fits once it is spent.
  bool fits(double cost, wall_time now) { return !limited() || spent(now) + cost <= terms_.limit; }
  /// True once per period: when the soft limit has been passed.
  bool warn(wall_time now);
  /// When something that is spent will count no more.
  wall_time next_relief(wall_time now);
  /// Since when what is spent counts.
  wall_time counts_from(wall_time now) const;

private:
  struct hour_cost {
    int64_t hour;
    double cost;
  };
  void forget(wall_time now);

  budget_terms terms_;
  std::deque<hour_cost> hours_; ///< ascending
  double total_ = 0;
  int64_t seen_ = INT64_MIN; ///< the hour for which `hours_` was last tidied
  int64_t warned_from_ = INT64_MIN;
};

} // namespace troupe::policies
