#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "policies/fair_queue.hpp"

/// An engine that serves several clients, in simulated time: what the schedulers of fair_queue.hpp
/// are compared with.
namespace troupe::policies {

/// How long an engine takes and how much it holds, after the measurements published with
/// arXiv 2401.00588 (artifact, cost_profile.json and result files).
struct engine_model {
  std::string name;
  uint64_t pool_tokens = 0;
  double prefill_ms = 0;           ///< of a request
  double prefill_token_ms = 0;     ///< of each input token
  double step_ms = 0;              ///< of a decoding step
  double step_request_ms = 0;      ///< of each request in the batch
  double step_context_ms = 0;      ///< of each token of context in the batch
  uint32_t admission_steps = 10;   ///< requests join when the batch is empty or after so many steps
  uint64_t prefill_tokens_max = 0; ///< that join at once

  /// Llama-7B on an A10G with 10,000 tokens: least squares over four points of the profile, within
  /// 1.1 % of each.
  static engine_model a10g();
  /// Llama-13B on an A100-80GB: least squares over four results, within 4 % of each.
  static engine_model a100(uint64_t pool_tokens);
};

struct simulated_request {
  double arrival = 0; ///< seconds
  uint32_t client = 0;
  uint32_t input = 0;
  uint32_t output = 1;
};

struct simulated_client {
  std::string name;
  double weight = 1;
};

/// What became of a request; times in seconds, NaN if it never came to that.
struct simulated_outcome {
  double first_token = std::numeric_limits<double>::quiet_NaN();
  double finished = std::numeric_limits<double>::quiet_NaN();
  bool refused = false;
};

/// What the queue is told about lengths that only the simulation knows.
enum class length_oracle : uint8_t {
  silent,
  exact,
  within_half ///< uniform between half and one and a half of the true length
};

struct simulation {
  engine_model engine;
  std::vector<simulated_client> clients{};
  std::vector<simulated_request> requests{}; ///< by time of arrival
  double seconds = 600; ///< how long is looked at; what waits then is still served to its end
  length_oracle oracle = length_oracle::silent;
  uint64_t seed = 42; ///< of the oracle
};

struct simulation_result {
  std::vector<simulated_outcome> outcomes; ///< as simulation::requests
  double end = 0;                          ///< when the last request had been served
  uint64_t steps = 0;
  /// Sampled once a second up to simulation::seconds: service (input + 2 * output, counted as each
  /// token was made) of every client so far.
  std::vector<std::vector<double>> service;
};

/// Serves all requests in the order of `queue`, which starts empty.
simulation_result simulate(const simulation& what, fair_queue& queue);

} // namespace troupe::policies
