#include "policies/prefill_cost.hpp"

#include <algorithm>

namespace troupe::policies {

namespace {

/// Models beyond so many are judged by their size alone.
constexpr size_t models_max = 4096;

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
  models_[model].learn(shape_of(work), std::chrono::duration_cast<duration>(
                                           std::chrono::duration<double>{std::min(seconds, 1e6)}));
}

double prefill_cost::seconds(const model_id& model, double weight_bytes, prompt_work work) const {
  const auto at = models_.find(model);
  if (at != models_.end() && at->second.is_measured())
    return at->second.ms(shape_of(work)) / 1e3;
  return bytes_of(weight_bytes, work) / any_.bytes_per_second();
}

} // namespace troupe::policies
