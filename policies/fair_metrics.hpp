#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "policies/fair_suites.hpp"

namespace troupe::policies {

struct client_metrics {
  size_t arrived = 0, refused = 0;
  double service_rate = 0;       ///< units of service per second within the observed time
  double first_token_mean_s = 0; ///< of requests that arrived within it; waiting included
  double first_token_p99_s = 0;
};

/// What arXiv 2401.00588 reports of a run (artifact, plot/visualize.py), in units of service:
/// input + 2 * output.
struct fair_metrics {
  /// At 19 times, over a minute around each: the sum over clients of what the best served one had
  /// more, but no more than what the client itself asked for and did not get.
  double difference_max = 0, difference_mean = 0, difference_variance = 0;
  double tokens_per_s = 0; ///< input and output of all served, until the last one's end
  size_t served = 0, arrived = 0;
  /// Greatest minus least service (divided by weight) that clients got from 30 s on, at its
  /// greatest.
  double drift = 0;
  double bound = 0; ///< drift_bound of the two lightest clients
  /// Share of the last client in the two minutes from its first arrival on.
  double newcomer_share = 0;
  std::vector<client_metrics> clients;
};

fair_metrics measure(const simulation& what, const simulation_result& result);

/// A queue by a name of make_fair_queue, or vtc-oracle and vtc-half: told lengths exactly, or
/// within half. Nothing for other names.
struct fair_run {
  fair_metrics metrics;
  std::vector<std::vector<double>> service; ///< as simulation_result::service
};
std::optional<fair_run> run_suite(const fair_suite& suite, std::string_view policy, uint64_t seed);

} // namespace troupe::policies
