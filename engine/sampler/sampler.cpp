#include "engine/sampler/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/errors.hpp"
#include "engine/sampler/philox.hpp"

namespace troupe::engine {

namespace {

constexpr float never = -std::numeric_limits<float>::infinity();

void add_logprobs(std::span<const float> logits, float highest, token_id chosen, int32_t count,
                  std::vector<float>& scratch, sampled_token& out) {
  const double log_total = highest + std::log(exponentials(logits, highest, 1.0f, scratch));
  const auto logprob = [&](token_id id) { return static_cast<float>(logits[id] - log_total); };
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
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (count > 0)
      logit -= params.frequency_penalty * static_cast<float>(count) + params.presence_penalty;
    count |= seen;
  }
  for (const auto token : context.tokens)
    counts[token] = 0;
  return true;
}

} // namespace

caf::expected<sampled_token> sampler::sample(std::span<float> logits,
                                             const sampling_context& context) {
  const auto& params = context.params;
  if (params.top_logprobs >= 0)
    raw_.assign(logits.begin(), logits.end());
  const float raw_highest = highest_of(logits);
  if (!std::isfinite(raw_highest))
    return caf::make_error(errc::bad_numbers, "the model computed logits that are not numbers; its "
                                              "weights are damaged or overflow in this precision");
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

token_id sampler::draw_unfiltered(double total, double uniform) const {
  double rest = uniform * total;
  // Whole stretches first: adding up one by one waits for each addition.
  constexpr size_t stretch = 1024;
  const std::span<const float> all{weights_};
  size_t begin = 0;
  for (; begin + stretch < all.size(); begin += stretch) {
    const double sum = sum_of(all.subspan(begin, stretch));
    if (rest < sum)
      break;
    rest -= sum;
  }
  token_id last = 0;
  for (size_t i = begin; i < all.size(); ++i) {
    if (all[i] == 0.0f)
      continue;
    last = static_cast<token_id>(i);
    rest -= all[i];
    if (rest < 0)
      return last;
  }
  if (all[last] > 0.0f)
    return last;
  // Only rounding leads here, past the last token that has any weight.
  return static_cast<token_id>(std::max_element(all.begin(), all.end()) - all.begin());
}

/// Cuts `candidates_`, heaviest first, where `share` of their sum is reached.
void sampler::keep_share(double share) {
  double total = 0;
  for (const auto& one : candidates_)
    total += one.weight;
  double sum = 0;
  for (size_t i = 0; i < candidates_.size(); ++i)
    if ((sum += candidates_[i].weight) >= share * total)
      return candidates_.resize(i + 1);
}

token_id sampler::draw(std::span<const float> logits, float highest,
                       const sampling_context& context) {
  const auto& params = context.params;
  const double uniform = uniform_at(params.seed, context.tokens.size());
  const double all = exponentials(logits, highest, params.temperature, weights_);
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
    return draw_unfiltered(all, uniform);
  }
  std::erase_if(candidates_, [&](const auto& one) { return one.weight < params.min_p; });
  // The heaviest has weight 1, so it is always among them. Sums go in the order of the tokens.
  const auto by_token = [](const auto& a, const auto& b) { return a.token < b.token; };
  if (!std::is_sorted(candidates_.begin(), candidates_.end(), by_token))
    std::sort(candidates_.begin(), candidates_.end(), by_token);
  double total = 0;
  for (const auto& one : candidates_)
    total += one.weight;
  double rest = uniform * total;
  for (const auto& one : candidates_) {
    rest -= one.weight;
    if (rest < 0)
      return one.token;
  }
  return candidates_.back().token; // only rounding leads here
}

} // namespace troupe::engine
