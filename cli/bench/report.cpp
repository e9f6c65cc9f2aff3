#include <algorithm>
#include <cmath>

#include "cli/bench/result.hpp"

namespace troupe::cli::bench {

summary summarize(std::vector<double> values) {
  std::ranges::sort(values);
  const auto middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

shares shares_of(const report& in, const result& one) {
  shares out;
  if (one.seconds <= 0)
    return out;
  // The set that is nearest in size: a smaller one may profit from the caches.
  const read_ceiling* read = nullptr;
  const auto distance = [&](const read_ceiling& to) {
    return std::abs(static_cast<double>(to.set_bytes) - static_cast<double>(one.set_bytes));
  };
  for (const auto& ceiling : in.reads)
    if (one.set_bytes > 0 && (read == nullptr || distance(ceiling) < distance(*read)))
      read = &ceiling;
  if (read != nullptr)
    out.read = one.bytes / one.seconds / read->bytes_per_second;
  const auto best = [&](const std::string& type) {
    double ops = 0;
    for (const auto& ceiling : in.computes)
      if (!type.empty() && ceiling.name.starts_with(type + " "))
        ops = std::max(ops, ceiling.ops_per_second);
    return ops;
  };
  // A processor without products of that type converts first.
  const double ops = best(one.arithmetic) > 0 ? best(one.arithmetic) : best("f32");
  if (ops > 0 && !one.arithmetic.empty())
    out.compute = one.flops / one.seconds / ops;
  return out;
}

} // namespace troupe::cli::bench
