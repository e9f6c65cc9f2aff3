#include "policies/step_budget.hpp"

#include <algorithm>

namespace troupe::policies {

uint32_t prompt_rows(const step_budget_config& config, const step_cost& cost, step_shape decoding,
                     step_shape all, uint64_t prompt_context, uint32_t rows_max, bool urgent) {
  if (decoding.rows == 0)
    return rows_max;
  const bool has_target = config.target > duration{0};
  if (has_target && !cost.is_measured())
    return rows_max; // one chunk, and it is known
  const double usual = has_target ? std::chrono::duration<double, std::milli>(config.target).count()
                                  : config.patience * cost.ms(all);
  const double limit = urgent ? config.haste * usual : usual;
  const auto fits = [&](uint32_t rows) {
    const auto count = static_cast<double>(rows);
    const double pairs = count * (static_cast<double>(prompt_context) + (count + 1) / 2);
    return cost.ms(decoding + step_shape{count, pairs}) <= limit;
  };
  // The cost grows with the rows: the last that fits is found by halving.
  const auto least = urgent ? config.urgent_rows_min : config.prompt_rows_min;
  uint32_t low = std::min(least, rows_max), high = rows_max;
  while (low < high) {
    const auto middle = low + (high - low + 1) / 2;
    if (fits(middle))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

} // namespace troupe::policies
