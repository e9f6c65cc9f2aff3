#include "engine/sampler/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/errors.hpp"
#include "engine/sampler/philox.hpp"
#include "gpu/choice_math.hpp"

namespace troupe::engine {

namespace {

constexpr float never = -std::numeric_limits<float>::infinity();

void add_logprobs(std::span<const float> logits, float highest, token_id chosen, int32_t count,
                  std::vector<float>& scratch, sampled_token& out) {
  const auto mass = exponentials(logits, highest, 1.0f, scratch);
  const auto logprob = [&](token_id id) { return logprob_of(logits[id], highest, mass); };
  out.logprob = logprob(chosen);
  for (const auto id : highest_tokens(logits, static_cast<size_t>(count)))
    out.top.push_back({id, logprob(id)});
}

/// Both return whether they changed anything.
bool apply_bias(std::span<float> logits, const sampling_context& context) {
  const auto& params = context.params;
  for (const auto& [token, bias] : params.logit_bias)
    logits[token] += bias;
  if (context.tokens.size() - context.prompt_size >= params.min_tokens)
    return !params.logit_bias.empty();
  for (const auto token : context.end_tokens)
    logits[token] = never;
  for (const auto token : params.stop_token_ids)
    logits[token] = never;
  return true;
}

bool apply_penalties(std::span<float> logits, const sampling_context& context,
                     std::vector<uint32_t>& counts) {
  const auto& params = context.params;
  if (params.repetition_penalty == 1.0f && params.presence_penalty == 0.0f &&
      params.frequency_penalty == 0.0f)
    return false;
  counts.resize(std::max(counts.size(), logits.size()));
  // Top bit: the token has had its repetition penalty.
  constexpr uint32_t seen = 1u << 31;
  for (const auto token : context.tokens.subspan(context.prompt_size))
    ++counts[token];
  for (const auto token : context.tokens) {
    auto& count = counts[token];
    if (count & seen)
      continue;
    auto& logit = logits[token];
    logit = gpu::penalized(logit, params.repetition_penalty, params.frequency_penalty,
                           params.presence_penalty, count);
    count |= seen;
  }
  for (const auto token : context.tokens)
    counts[token] = 0;
  return true;
}

} // namespace

float logprob_of(float logit, float highest, uint64_t mass) {
  return static_cast<float>(logit -
                            (highest + std::log(static_cast<double>(mass) * gpu::mass_unit)));
}

caf::error bad_numbers() {
  return caf::make_error(errc::bad_numbers, "the model computed logits that are not numbers; its "
                                            "weights are damaged or overflow in this precision");
}

caf::expected<sampled_token> sampler::sample(std::span<float> logits,
                                             const sampling_context& context) {
  const auto& params = context.params;
  if (params.top_logprobs >= 0)
    raw_.assign(logits.begin(), logits.end());
  const float raw_highest = highest_of(logits);
  if (!std::isfinite(raw_highest))
    return bad_numbers();
  const bool changed = apply_bias(logits, context) | apply_penalties(logits, context, counts_);
  sampled_token out;
  const float highest = changed ? highest_of(logits) : raw_highest;
  if (!std::isfinite(
          highest)) // everything is suppressed, or a bias overflowed: no draw makes sense
    out.token =
        static_cast<token_id>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  else if (params.temperature == 0.0f)
    out.token =
        static_cast<token_id>(std::find(logits.begin(), logits.end(), highest) - logits.begin());
  else
    out.token = draw(logits, highest, context);
  if (params.top_logprobs >= 0)
    add_logprobs(raw_, raw_highest, out.token, params.top_logprobs, weights_, out);
  return out;
}

token_id sampler::draw_unfiltered(uint64_t target) const {
  // Whole stretches first: adding up one by one waits for each addition.
  constexpr size_t stretch = 1024;
  const std::span<const float> all{weights_};
  size_t at = 0;
  for (; at + stretch < all.size(); at += stretch) {
    const auto mass = mass_of_all(all.subspan(at, stretch));
    if (target < mass)
      break;
    target -= mass;
  }
  for (;; ++at) { // the target is less than the mass of all
    const auto mass = gpu::mass_of(all[at]);
    if (target < mass)
      return static_cast<token_id>(at);
    target -= mass;
  }
}

/// Cuts `candidates_`, heaviest first, where `share` of their mass is reached.
void sampler::keep_share(float share) {
  uint64_t total = 0;
  for (const auto& one : candidates_)
    total += gpu::mass_of(one.weight);
  const auto wanted = gpu::mass_wanted(share, total);
  uint64_t mass = 0;
  for (size_t i = 0; i < candidates_.size(); ++i)
    if ((mass += gpu::mass_of(candidates_[i].weight)) >= wanted)
      return candidates_.resize(i + 1);
}

token_id sampler::draw(std::span<const float> logits, float highest,
                       const sampling_context& context) {
  const auto& params = context.params;
  const auto random = random_at(params.seed, context.tokens.size());
  const auto all = exponentials(logits, highest, params.temperature, weights_);
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size()) {
    heaviest(weights_, static_cast<size_t>(params.top_k), candidates_, scratch_);
    if (params.top_p < 1.0f)
      keep_share(params.top_p);
  } else if (params.top_p < 1.0f) {
    nucleus(weights_, all, params.top_p, candidates_, scratch_);
  } else if (params.min_p > 0.0f) {
    candidates_.clear();
    candidates_.reserve(weights_.size());
    for (size_t i = 0; i < weights_.size(); ++i)
      if (weights_[i] >= params.min_p)
        candidates_.push_back({weights_[i], static_cast<token_id>(i)});
  } else {
    return draw_unfiltered(gpu::high_product(random, all));
  }
  std::erase_if(candidates_, [&](const auto& one) { return one.weight < params.min_p; });
  const auto by_token = [](const auto& a, const auto& b) { return a.token < b.token; };
  if (!std::is_sorted(candidates_.begin(), candidates_.end(), by_token))
    std::sort(candidates_.begin(), candidates_.end(), by_token);
  uint64_t total = 0;
  for (const auto& one : candidates_)
    total += gpu::mass_of(one.weight);
  // The heaviest has weight 1, so it is always among them.
  auto target = gpu::high_product(random, total);
  for (const auto& one : candidates_) {
    const auto mass = gpu::mass_of(one.weight);
    if (target < mass)
      return one.token;
    target -= mass;
  }
  return candidates_.back().token; // not reached: the target is less than the total
}

} // namespace troupe::engine
