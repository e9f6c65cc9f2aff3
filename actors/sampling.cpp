#include "actors/sampling.hpp"

namespace troupe::actors {

engine::sampling_params merge_sampling(const sampling_request& asked,
                                       const engine::sampling_params& advised,
                                       uint32_t context_left) {
  auto out = advised;
  out.temperature = asked.temperature.value_or(advised.temperature);
  out.top_p = asked.top_p.value_or(advised.top_p);
  out.top_k = asked.top_k.value_or(advised.top_k);
  out.min_p = asked.min_p.value_or(advised.min_p);
  out.presence_penalty = asked.presence_penalty.value_or(advised.presence_penalty);
  out.frequency_penalty = asked.frequency_penalty.value_or(advised.frequency_penalty);
  out.repetition_penalty = asked.repetition_penalty.value_or(advised.repetition_penalty);
  out.logit_bias = asked.logit_bias;
  out.top_logprobs = asked.top_logprobs;
  out.max_tokens = asked.max_tokens.value_or(context_left);
  out.min_tokens = asked.min_tokens;
  out.ignore_eos = asked.ignore_eos;
  out.stop_token_ids = asked.stop_token_ids;
  return out;
}

std::optional<failure> check_context(uint32_t context_length, size_t prompt_tokens,
                                     std::optional<uint32_t> max_tokens) {
  const auto limit =
      "This model's maximum context length is " + std::to_string(context_length) + " tokens. ";
  failure out{
      .kind = failure_kind::context_length_exceeded, .message = {}, .param = {}, .retry_after = {}};
  if (prompt_tokens >= context_length)
    out.message = limit + "However, your prompt has " + std::to_string(prompt_tokens) +
                  " tokens, which leaves no room for an answer. Please shorten it.";
  else if (max_tokens && prompt_tokens + *max_tokens > context_length)
    out.message = limit + "However, you requested " + std::to_string(prompt_tokens + *max_tokens) +
                  " tokens (" + std::to_string(prompt_tokens) + " in the prompt, " +
                  std::to_string(*max_tokens) + " in the answer). Please shorten either.";
  else
    return std::nullopt;
  return out;
}

} // namespace troupe::actors
