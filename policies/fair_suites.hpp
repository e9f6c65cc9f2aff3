#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "policies/serving_sim.hpp"

namespace troupe::policies {

/// How often a client asks from one time to another; the rate may rise or fall linearly.
struct load_phase {
  double from = 0, to = 600;        ///< seconds
  double rate = 1, rate_at_end = 0; ///< requests per second; 0 = stays as it was
  bool on_off = false;              ///< a minute with requests, a minute without
};

struct suite_client {
  std::string_view name;
  std::vector<load_phase> phases;
  uint32_t input_min = 256, input_max = 256;
  uint32_t output_min = 256, output_max = 256;
  double weight = 1;
};

/// An experiment of arXiv 2401.00588 (artifact, exp_suite.py) or one of ours.
struct fair_suite {
  std::string_view name;
  std::string_view about;
  std::vector<suite_client> clients;
  double seconds = 600;
  bool poisson = false; ///< else evenly spaced with a random phase
  engine_model engine = engine_model::a10g();
  bool backlogged = false; ///< every client has requests waiting nearly all the time
};

const std::vector<fair_suite>& fair_suites();
/// Null for an unknown name.
const fair_suite* find_suite(std::string_view name);

/// The requests of one run, a function of the suite and the seed alone.
simulation make_simulation(const fair_suite& suite, uint64_t seed);

} // namespace troupe::policies
