#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace troupe::policies {

/// Prices in units of service. A cached input token is charged `cached`, any other one `input`.
struct fair_prices {
  double input = 1;
  double cached = 1;
  double output = 2;
};

/// One request that waits. `cached_tokens` is at most `input_tokens`.
struct fair_request {
  uint64_t id = 0;
  uint32_t tenant = 0; ///< small and dense: it is an index
  uint32_t input_tokens = 0;
  uint32_t cached_tokens = 0;
};

/// Virtual Token Counter (arXiv 2401.00588, Algorithm 2) with both lift clauses and weights.
/// Two tenants that both wait all the time differ in service / weight by at most 2U / w_min,
/// U = output price * tokens of the pool, if no input price exceeds the output price.
/// Choosing costs O(log tenants that wait). Never forgets a tenant: debt is kept.
class virtual_token_counter {
public:
  explicit virtual_token_counter(fair_prices prices = {}) : prices_{prices} {}
  /// Charges from now on are divided by `weight`, which is above 0.
  void set_weight(uint32_t tenant, double weight);
  void push(const fair_request& request);
  /// The request whose turn it is. The caller stops admitting if it does not fit (no skipping).
  const fair_request* front() const;
  /// Takes that request and charges its input.
  std::optional<fair_request> pop();
  /// Charges decoded tokens; negative `tokens` refund a prediction that was too long.
  void charge_output(uint32_t tenant, int64_t tokens);
  double counter(uint32_t tenant) const;
  bool waits(uint32_t tenant) const;

private:
  struct tenant_state {
    double counter = 0;
    double weight = 1;
    std::deque<fair_request> waiting;
  };
  tenant_state& at(uint32_t tenant);
  void add(uint32_t tenant, double cost);

  fair_prices prices_;
  std::vector<tenant_state> tenants_;
  std::set<std::pair<double, uint32_t>> turns_; // only tenants that wait
  std::optional<uint32_t> last_to_leave_;
};

} // namespace troupe::policies
