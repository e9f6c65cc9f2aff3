#include "policies/step_cost.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

namespace troupe::policies {

namespace {

/// What was known counts so much less after each step of a size: for some twenty steps.
constexpr double memory = 0.95;
/// Weight of the belief that costs have the usual proportions, in steps.
constexpr double belief = 0.01;

using vector = std::array<double, 3>;
using matrix = std::array<vector, 3>; ///< symmetric

/// Solves a * x = b for the costs in `used` (bits), the others being 0, by Cholesky's method. None
/// if `a` does not determine them.
std::optional<vector> solve(const matrix& a, const vector& b, unsigned used) {
  matrix low{};
  vector half{}, out{};
  const auto is_used = [&](size_t i) { return (used >> i & 1u) != 0; };
  for (size_t i = 0; i < 3; ++i) {
    if (!is_used(i))
      continue;
    for (size_t j = 0; j <= i; ++j) {
      if (!is_used(j))
        continue;
      double rest = a[i][j];
      for (size_t k = 0; k < j; ++k)
        rest -= low[i][k] * low[j][k];
      if (i == j && rest < 1e-12 * a[i][i])
        return std::nullopt;
      low[i][j] = i == j ? std::sqrt(rest) : rest / low[j][j];
    }
    half[i] = b[i];
    for (size_t k = 0; k < i; ++k)
      half[i] -= low[i][k] * half[k];
    half[i] /= low[i][i];
  }
  for (size_t i = 3; i-- > 0;) {
    if (!is_used(i))
      continue;
    out[i] = half[i];
    for (size_t k = i + 1; k < 3; ++k)
      out[i] -= low[k][i] * out[k];
    out[i] /= low[i][i];
  }
  return out;
}

/// The squared error of `x`, less a constant.
double error_of(const matrix& a, const vector& b, const vector& x) {
  double out = 0;
  for (size_t i = 0; i < 3; ++i) {
    out -= 2 * b[i] * x[i];
    for (size_t j = 0; j < 3; ++j)
      out += a[i][j] * x[i] * x[j];
  }
  return out;
}

} // namespace

void step_cost::learn(step_shape step, duration took) {
  const double ms = std::chrono::duration<double, std::milli>(took).count();
  if (step.rows < 1 || ms <= 0)
    return;
  auto& size = sizes_[std::min(static_cast<size_t>(std::log2(step.rows)), sizes_.size() - 1)];
  const double x[] = {1 / ms, step.rows / ms, step.pairs / ms};
  for (size_t i = 0, at = 0; i < 3; ++i) {
    size.values[i] = memory * size.values[i] + x[i];
    for (size_t j = i; j < 3; ++j, ++at)
      size.products[at] = memory * size.products[at] + x[i] * x[j];
  }
  size.steps = memory * size.steps + 1;
  is_measured_ = true;
  fit();
}

double step_cost::free_rows() const {
  return per_row_ > 0 ? std::clamp(fixed_ / per_row_, 1.0, 1000.0) : 1000.0;
}

/// Minimizes the squares of (fixed + per_row * rows + per_pair * pairs) / ms - 1 over costs that
/// are not negative: with three of them, every choice of those that are not 0 can be tried.
void step_cost::fit() {
  matrix a{};
  vector b{};
  double steps = 0;
  for (const auto& size : sizes_) {
    steps += size.steps;
    for (size_t i = 0, at = 0; i < 3; ++i) {
      b[i] += size.values[i];
      for (size_t j = i; j < 3; ++j, ++at)
        a[i][j] += size.products[at];
    }
  }
  // fixed = usual_free_rows * per_row, as if a part of a step of average length had shown it.
  const double weight = belief * a[0][0] / steps;
  a[0][0] += weight;
  a[0][1] -= weight * usual_free_rows;
  a[1][1] += weight * usual_free_rows * usual_free_rows;
  a[2][2] *= 1.0001; // per_pair = 0
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < i; ++j)
      a[i][j] = a[j][i];
  double least = 0;
  for (unsigned used = 1; used < 8; ++used) {
    const auto found = solve(a, b, used);
    if (!found || std::ranges::any_of(*found, [](double cost) { return cost < 0; }))
      continue;
    if (const double error = error_of(a, b, *found); error < least) {
      least = error;
      fixed_ = (*found)[0];
      per_row_ = (*found)[1];
      per_pair_ = (*found)[2];
    }
  }
}

} // namespace troupe::policies
