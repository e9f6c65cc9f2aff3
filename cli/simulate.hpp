#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace troupe::cli {

struct simulate_options {
  std::vector<std::string> suites;   ///< empty = all
  std::vector<std::string> policies; ///< empty = the usual ones
  uint64_t seed = 42;
  std::string svg_file; ///< empty = no plot
  bool json = false;
};

/// `troupe simulate fairness`: runs the suites of policies/fair_suites.hpp under several queues and
/// prints what policies/fair_metrics.hpp measures. An exit code.
int simulate_fairness(const simulate_options& options);

} // namespace troupe::cli
