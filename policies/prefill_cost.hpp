#pragma once
#include <cstdint>
#include <map>

#include "base/ids.hpp"
#include "policies/load_cost.hpp"
#include "policies/step_cost.hpp"

namespace troupe::policies {

/// A prompt: how much of it has to be computed.
struct prompt_work {
  uint32_t tokens = 0;   ///< all of the prompt
  uint32_t computed = 0; ///< of these: the others are found computed
};

/// How long models take from the first step of a prompt to the first token, from how long they
/// took. A model that was never seen is taken to be as fast as the others, for its size.
class prefill_cost {
public:
  /// `bytes_per_second`: at which a step reads the weights, before anything was measured.
  explicit prefill_cost(double bytes_per_second = 8e9);

  void learn(const model_id& model, double weight_bytes, prompt_work work, double seconds);
  double seconds(const model_id& model, double weight_bytes, prompt_work work) const;
  /// What a prompt of so many tokens is likely to need: the share that was found computed lately is
  /// taken off.
  prompt_work likely_work(const model_id& model, uint32_t tokens) const;

private:
  struct known {
    step_cost cost;
    double reused_share = 0; ///< moving average
    bool was_seen = false;
  };
  std::map<model_id, known> models_;
  rate_estimate any_; ///< of weight bytes times rows, those counted that a step costs by itself
};

} // namespace troupe::policies
