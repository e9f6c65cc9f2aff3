#include "policies/prefill_cost.hpp"

#include <algorithm>

namespace troupe::policies {

namespace {

/// Models beyond so many are judged by their size alone.
constexpr size_t models_max = 4096;
/// How much the last prompt tells of the next one's reuse.
constexpr double share_step = 0.25;

/// Every computed token attends to those before it.
step_shape shape_of(prompt_work work) {
  const double rows = std::max(work.computed, 1u);
  const double before = work.tokens - std::min(work.computed, work.tokens);
  return {rows, rows * before + rows * (rows + 1) / 2};
}

double bytes_of(double weight_bytes, prompt_work work) {
  return std::max(weight_bytes, 1.0) * (step_cost::usual_free_rows + shape_of(work).rows);
}

} // namespace

prefill_cost::prefill_cost(double bytes_per_second)
    : any_{bytes_per_second * (step_cost::usual_free_rows + 1)} {}

void prefill_cost::learn(const model_id& model, double weight_bytes, prompt_work work,
                         double seconds) {
  if (!(seconds > 0))
    return;
  any_.observe(bytes_of(weight_bytes, work) / seconds);
  if (!models_.contains(model) && models_.size() >= models_max)
    return;
  auto& of = models_[model];
  of.cost.learn(shape_of(work), std::chrono::duration_cast<duration>(
                                    std::chrono::duration<double>{std::min(seconds, 1e6)}));
  const double reused = work.tokens - std::min(work.computed, work.tokens);
  const double share = reused / std::max(work.tokens, 1u);
  of.reused_share = of.was_seen ? of.reused_share + share_step * (share - of.reused_share) : share;
  of.was_seen = true;
}

prompt_work prefill_cost::likely_work(const model_id& model, uint32_t tokens) const {
  const auto at = models_.find(model);
  const auto share = at == models_.end() ? 0 : at->second.reused_share;
  return {tokens, tokens - static_cast<uint32_t>(share * tokens)};
}

double prefill_cost::seconds(const model_id& model, double weight_bytes, prompt_work work) const {
  const auto at = models_.find(model);
  if (at != models_.end() && at->second.cost.is_measured())
    return at->second.cost.ms(shape_of(work)) / 1e3;
  return bytes_of(weight_bytes, work) / any_.bytes_per_second();
}

} // namespace troupe::policies
