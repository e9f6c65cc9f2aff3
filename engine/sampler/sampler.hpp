#pragma once
#include <span>
#include <vector>

#include "engine/engine.hpp"
#include "engine/sampler/selection.hpp"

namespace troupe::engine {

struct sampled_token {
  token_id token = 0;
  float logprob = 0;              ///< when sampling.top_logprobs >= 0
  std::vector<token_logprob> top; ///< most likely first
};

/// What a choice depends on besides the logits.
struct sampling_context {
  const sampling_params& params;
  std::span<const token_id> tokens; ///< prompt and generated so far
  size_t prompt_size = 0;
  std::span<const token_id> end_tokens; ///< suppressed before min_tokens
};

/// The logprob of a token by its logit, the highest one and the mass of all at temperature 1.
float logprob_of(float logit, float highest, uint64_t mass);

/// The model's logits cannot be used.
caf::error bad_numbers();

/// Chooses tokens, on the host. Order: logprobs of the raw logits are taken first, then logit_bias,
/// min_tokens, repetition penalty (prompt and generated tokens, CTRL section 4.1), frequency and
/// presence penalties (generated tokens, as OpenAI documents them), temperature, top_k, top_p,
/// min_p. The draw is a function of (seed, number of tokens so far). `gpu::device::choose` does the
/// same, so a change here is one there. Keeps scratch memory; one thread at a time.
class sampler {
public:
  /// `logits` [vocabulary] is overwritten. Fails with bad_numbers when it holds NaN or +infinity.
  caf::expected<sampled_token> sample(std::span<float> logits, const sampling_context& context);

private:
  token_id draw(std::span<const float> logits, float highest, const sampling_context& context);
  token_id draw_unfiltered(uint64_t target) const;
  void keep_share(float share);
  std::vector<weighted_token> candidates_, scratch_;
  std::vector<float> weights_, raw_;
  std::vector<uint32_t> counts_; ///< of generated tokens; all zero between calls
};

} // namespace troupe::engine
