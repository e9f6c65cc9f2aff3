#include "policies/fair_cost.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace troupe::policies {

fair_cost fair_cost::profiled() {
  return {.input = 0.21001891,
          .cached = 0,
          .output = 0.10075395,
          .fixed = 1.14601454,
          .cross = 0.0039868,
          .square = 0.00324733};
}

bool fair_cost::valid() const {
  const double all[] = {input, cached, output, fixed, cross, square};
  return output > 0 && std::all_of(std::begin(all), std::end(all),
                                   [](double x) { return std::isfinite(x) && x >= 0; });
}

double fair_cost::admission(uint32_t in, uint32_t cached_tokens) const {
  const auto known = std::min(in, cached_tokens);
  return fixed + input * (in - known) + cached * known;
}

double fair_cost::decoding(uint32_t in, uint64_t from, uint64_t to) const {
  const auto more = static_cast<double>(to - from);
  return more *
         (output + cross * in + square * (static_cast<double>(from) + static_cast<double>(to)));
}

namespace {

double output_price_max(const fair_cost& cost, const fair_limits& limits) {
  return cost.output + cost.cross * static_cast<double>(limits.input_max) +
         cost.square * static_cast<double>(limits.output_max);
}

} // namespace

double charge_after_admission_max(const fair_cost& cost, const fair_limits& limits) {
  const auto s = output_price_max(cost, limits), p = std::max(cost.input, cost.cached);
  return cost.fixed + s * static_cast<double>(limits.pool_tokens) +
         std::max(0.0, p - s) * static_cast<double>(limits.input_max);
}

double prepaid_max(const fair_cost& cost, const fair_limits& limits) {
  return output_price_max(cost, limits) * static_cast<double>(limits.pool_tokens);
}

double drift_bound(const fair_cost& cost, const fair_limits& limits, double weight_f,
                   double weight_g, double prepaid) {
  return (charge_after_admission_max(cost, limits) + prepaid) * (1 / weight_f + 1 / weight_g);
}

} // namespace troupe::policies
