#include <cmath>

#include "engine/engine.hpp"
#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

caf::error out_of_range(const std::string& name, const std::string& range) {
  return caf::make_error(errc::invalid_argument, name + " must be " + range);
}

bool within(float value, float low, float high) {
  return std::isfinite(value) && value >= low && value <= high;
}

} // namespace

caf::error validate(const sampling_params& params, int32_t vocab_size) {
  if (!within(params.temperature, 0, 100))
    return out_of_range("temperature", "from 0 to 100");
  if (!within(params.top_p, 0, 1) || params.top_p == 0)
    return out_of_range("top_p", "above 0 and at most 1");
  if (!within(params.min_p, 0, 1))
    return out_of_range("min_p", "from 0 to 1");
  if (params.top_k < -1)
    return out_of_range("top_k", "0 or -1 (off) or positive");
  if (!within(params.presence_penalty, -2, 2))
    return out_of_range("presence_penalty", "from -2 to 2");
  if (!within(params.frequency_penalty, -2, 2))
    return out_of_range("frequency_penalty", "from -2 to 2");
  if (!within(params.repetition_penalty, 0, 100) || params.repetition_penalty == 0)
    return out_of_range("repetition_penalty", "above 0 and at most 100");
  if (params.top_logprobs < -1 || params.top_logprobs > 20)
    return out_of_range("top_logprobs", "from 0 to 20");
  if (params.max_tokens == 0)
    return out_of_range("max_tokens", "at least 1");
  if (params.min_tokens > params.max_tokens)
    return out_of_range("min_tokens", "at most max_tokens, " + std::to_string(params.max_tokens));
  for (const auto& [token, bias] : params.logit_bias) {
    if (token < 0 || token >= vocab_size)
      return out_of_range("logit_bias", "keyed by token ids below " + std::to_string(vocab_size) +
                                            "; " + std::to_string(token) + " is none");
    if (!within(bias, -100, 100))
      return out_of_range("logit_bias", "from -100 to 100 for each token");
  }
  for (const auto token : params.stop_token_ids)
    if (token < 0 || token >= vocab_size)
      return out_of_range("stop_token_ids", "token ids below " + std::to_string(vocab_size) + "; " +
                                                std::to_string(token) + " is none");
  return {};
}

} // namespace troupe::engine
