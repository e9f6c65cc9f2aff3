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
                  sampled_token& out) {
  double total = 0;
  for (const float logit : logits)
    total += std::exp(static_cast<double>(logit) - highest);
  const double log_total = highest + std::log(total);
  const auto logprob = [&](token_id id) { return static_cast<float>(logits[id] - log_total); };
  out.logprob = logprob(chosen);
  std::vector<token_id> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<token_id>(i);
  const auto wanted = std::min<size_t>(static_cast<size_t>(count), ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(wanted), ids.end(),
                    [&](token_id a, token_id b) {
                      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
                    });
  for (size_t i = 0; i < wanted; ++i)
    out.top.push_back({ids[i], logprob(ids[i])});
}

void apply_bias(std::span<float> logits, const sampling_context& context) {
  const auto& params = context.params;
  for (const auto& [token, bias] : params.logit_bias)
    logits[token] += bias;
  if (context.tokens.size() - context.prompt_size >= params.min_tokens)
    return;
  for (const auto token : context.end_tokens)
    logits[token] = never;
  for (const auto token : params.stop_token_ids)
    logits[token] = never;
}

void apply_penalties(std::span<float> logits, const sampling_context& context,
                     std::vector<uint32_t>& counts) {
  const auto& params = context.params;
  if (params.repetition_penalty == 1.0f && params.presence_penalty == 0.0f &&
      params.frequency_penalty == 0.0f)
    return;
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
}

} // namespace

caf::expected<sampled_token> sampler::sample(std::span<float> logits,
                                             const sampling_context& context) {
  const auto highest_of = [&] {
    float highest = never;
    bool broken = false;
    for (const float logit : logits) {
      highest = logit > highest ? logit : highest;
      broken |= std::isnan(logit);
    }
    return broken ? std::numeric_limits<float>::quiet_NaN() : highest;
  };
  const auto& params = context.params;
  std::vector<float> raw;
  if (params.top_logprobs >= 0)
    raw.assign(logits.begin(), logits.end());
  const float raw_highest = highest_of();
  if (!std::isfinite(raw_highest))
    return caf::make_error(errc::bad_numbers, "the model computed logits that are not numbers; its "
                                              "weights are damaged or overflow in this precision");
  apply_bias(logits, context);
  apply_penalties(logits, context, counts_);
  sampled_token out;
  const float highest = highest_of();
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
    add_logprobs(raw, raw_highest, out.token, params.top_logprobs, out);
  return out;
}

token_id sampler::draw_unfiltered(std::span<const float> logits, float highest, float temperature,
                                  double uniform) {
  weights_.resize(logits.size());
  double total = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    weights_[i] = std::exp((logits[i] - highest) / temperature);
    total += weights_[i];
  }
  double rest = uniform * total;
  token_id last = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0.0f)
      continue;
    last = static_cast<token_id>(i);
    rest -= weights_[i];
    if (rest < 0)
      break;
  }
  return last;
}

void sampler::keep_top_p(double share) {
  double total = 0;
  for (const auto& one : candidates_)
    total += one.weight;
  const auto heavier = [](const candidate& a, const candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  // The nucleus is small: sort only as many as it turns out to have.
  size_t sorted = 0;
  double sum = 0;
  for (size_t chunk = 128; sorted < candidates_.size(); chunk *= 8) {
    const auto end = std::min(candidates_.size(), sorted + chunk);
    const auto first = candidates_.begin() + static_cast<ptrdiff_t>(sorted);
    std::partial_sort(first, candidates_.begin() + static_cast<ptrdiff_t>(end), candidates_.end(),
                      heavier);
    for (; sorted < end; ++sorted) {
      sum += candidates_[sorted].weight;
      if (sum >= share * total) {
        candidates_.resize(sorted + 1);
        return;
      }
    }
  }
}

token_id sampler::draw(std::span<const float> logits, float highest,
                       const sampling_context& context) {
  const auto& params = context.params;
  const double uniform = uniform_at(params.seed, context.tokens.size());
  const bool limited = params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size();
  if (!limited && params.top_p >= 1.0f && params.min_p <= 0.0f)
    return draw_unfiltered(logits, highest, params.temperature, uniform);
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    const float weight = std::exp((logits[i] - highest) / params.temperature);
    if (weight > 0.0f && (limited || params.top_p < 1.0f || weight >= params.min_p))
      candidates_.push_back({weight, static_cast<token_id>(i)});
  }
  const auto heavier = [](const candidate& a, const candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  if (limited && candidates_.size() > static_cast<size_t>(params.top_k)) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params.top_k, candidates_.end(),
                     heavier);
    candidates_.resize(static_cast<size_t>(params.top_k));
  }
  if (params.top_p < 1.0f)
    keep_top_p(params.top_p);
  std::erase_if(candidates_, [&](const candidate& one) { return one.weight < params.min_p; });
  std::sort(candidates_.begin(), candidates_.end(),
            [](const candidate& a, const candidate& b) { return a.token < b.token; });
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
