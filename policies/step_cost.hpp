#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/instant.hpp"

namespace troupe::policies {

/// What a step of a model computes: rows go through the weights, and each row attends to positions.
struct step_shape {
  double rows = 0;
  double pairs = 0; ///< sum over the rows of the positions that each attends to
};
constexpr step_shape operator+(step_shape a, step_shape b) {
  return {a.rows + b.rows, a.pairs + b.pairs};
}

/// How long steps take, from how long they took: fixed + per_row * rows + per_pair * pairs.
///
/// Least squares of relative errors, which makes little of the odd step that the machine
/// interrupted. The newest steps count most, but for each power of two of rows apart, so that what
/// was learned of large steps outlives a long time of small ones. Before steps of different sizes
/// were seen, a step costs as much as `usual_free_rows` and its rows.
class step_cost {
public:
  /// Measured by engine_bench on 2 cores in bf16: 18 ms for one row, 1.6 to 1.8 ms for each further
  /// one.
  static constexpr double usual_free_rows = 10;

  void learn(step_shape step, duration took);
  /// False until a step was measured: then `ms` knows only ratios.
  bool is_measured() const { return is_measured_; }
  double ms(step_shape step) const {
    return fixed_ + per_row_ * step.rows + per_pair_ * step.pairs;
  }
  /// Rows that cost as much as a step of none.
  double free_rows() const;

private:
  /// What the fit needs to know of the steps of one size: with x = (1, rows, pairs) / ms, the sums
  /// of x_i * x_j and of x_i.
  struct sums {
    std::array<double, 6> products{}; ///< 00, 01, 02, 11, 12, 22
    std::array<double, 3> values{};
    double steps = 0;
  };
  void fit();

  std::array<sums, 24> sizes_; ///< by the power of two of rows
  bool is_measured_ = false;
  double fixed_ = usual_free_rows, per_row_ = 1, per_pair_ = 0;
};

} // namespace troupe::policies
