#pragma once
#include <cstdint>

namespace troupe::policies {

/// What a request costs, in units of service:
///   h(in, cached, out) = fixed + input * (in - cached) + cached * cached_tokens + output * out
///                        + cross * in * out + square * out^2
/// It never falls when tokens are added, because no coefficient is negative.
struct fair_cost {
  double input = 1;
  double cached = 1; ///< of an input token whose KV was found in the prefix cache
  double output = 2;
  double fixed = 0;
  double cross = 0;
  double square = 0;

  /// Prices of the paper's experiments: 1 for an input token, 2 for an output token.
  static fair_cost linear(double input = 1, double output = 2) { return {input, input, output}; }
  /// Milliseconds of Llama-7B on an A10G, fitted by the authors of arXiv 2401.00588 (artifact).
  static fair_cost profiled();
  /// Every coefficient is a finite number, none is negative, and output tokens are not free.
  bool valid() const;

  /// h(in, cached, 0).
  double admission(uint32_t in, uint32_t cached_tokens) const;
  /// h(in, ., to) - h(in, ., from), to >= from.
  double decoding(uint32_t in, uint64_t from, uint64_t to) const;
};

/// The engine that the requests compete for.
struct fair_limits {
  uint64_t pool_tokens = 0; ///< KV tokens that running requests hold together, at most
  uint64_t input_max = 0;   ///< of one request
  uint64_t output_max = 0;  ///< of one request
};

/// U: the most that one tenant can be charged after its last admission, that request included.
///
/// Let its running requests hold (in_i, out_i) tokens at their ends, r being the last one admitted:
/// sum(in_i + out_i) <= M, the pool. Charged from r's admission on is at most
///   fixed + p * in_r + sum(output * out_i + cross * in_i * out_i + square * out_i^2)
///   <= fixed + p * in_r + s * sum(out_i),   s = output + cross * Lin + square * Lout,
///   <= fixed + s * M + max(0, p - s) * Lin, p = max(input, cached), in_r <= Lin.
/// With p <= s and fixed = 0 that is s * M, the paper's U where an output token is the dearer one.
double charge_after_admission_max(const fair_cost& cost, const fair_limits& limits);

/// The most that a tenant can have prepaid if no request is expected to make more output than there
/// is room for: decoding a whole pool.
double prepaid_max(const fair_cost& cost, const fair_limits& limits);

/// How far the service of two tenants f and g, each divided by its weight, can drift apart in any
/// interval in which both always have requests waiting (of the same priority, and below the same
/// parent in a hierarchy):
///
///   |W_f / w_f - W_g / w_g| <= (U + P) * (1 / w_f + 1 / w_g)
///
/// U as above, P the most that one tenant has prepaid for tokens that are still to come: 0 without
/// length prediction, else at most prepaid_max. Weights of 1 and P = 0 give the
/// 2U of arXiv 2401.00588; the bound 2U / min(w_f, w_g) is never smaller.
///
/// Derivation. c is a tenant's counter, p its prepaid part, both divided by its weight, a = c - p
/// what it has really been served (and lifted). F is the least c of the waiting tenants, or a of
/// the last one that left when none waits; V is the greatest F so far. Who comes back is lifted to
/// a >= V. For every f that waits, V - P/w_f <= a_f <= V + U/w_f:
/// - Lower: V = F(s) for some s <= now. If f waited at s, c_f(s) >= V and a_f never falls, so
///   a_f >= a_f(s) >= V - P/w_f. If it joined later, it was lifted to V.
/// - Upper: at its last admission (if it was lifted later: then) a_f <= c_f = F <= V, and from then
///   on it is served at most U/w_f, because all it runs fits the pool.
/// So a_f - a_g stays within an interval of that width while both wait, and no lift occurs.
/// Nothing here asks how a tenant left (served or withdrawn) or how long it was away.
double drift_bound(const fair_cost& cost, const fair_limits& limits, double weight_f,
                   double weight_g, double prepaid = 0);

} // namespace troupe::policies
