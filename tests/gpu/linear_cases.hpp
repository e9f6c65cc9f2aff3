#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "gpu/cpu/blocks.hpp"
#include "tests/gpu/random_ops.hpp"

/// Products of weights of any type, for tests of devices beside the reference.
namespace troupe::gpu::test {

/// About `cols` columns, in whole blocks of the type (of eight elements where it has none).
inline int64_t whole_blocks(dtype type, int64_t cols) {
  const auto unit = is_blocks(type) ? int64_t{layout_of(type).elements} : 8;
  return std::max(cols / unit, int64_t{1}) * unit;
}

/// A matrix of any type, as a file has it. Its memory ends where its last block does.
class test_weight {
public:
  test_weight(random_data& random, dtype type, int64_t rows, int64_t cols)
      : type_{type}, rows_{rows}, cols_{cols}, bytes_{make(random)} {}
  weight get() const { return {bytes_.data(), type_, rows_, cols_}; }

private:
  std::vector<unsigned char> make(random_data& random) const {
    if (is_blocks(type_))
      return random_blocks(random, type_, rows_, cols_);
    const auto floats = random.floats(rows_ * cols_, 0.5f);
    std::vector<unsigned char> out(floats.size() * size_of(type_));
    for (size_t i = 0; i < floats.size(); ++i)
      cpu::store_element(out.data(), type_, static_cast<int64_t>(i), floats[i]);
    return out;
  }

  dtype type_;
  int64_t rows_, cols_;
  std::vector<unsigned char> bytes_;
};

/// A random product, x in values of bf16, rows of x and of out `x_gap` and `out_gap` apart. Some
/// have a bias, some are added to what is there: which, `kind` decides.
class random_product {
public:
  random_product(random_data& random, dtype type, int64_t rows, int64_t n, int64_t k, int kind,
                 int64_t x_gap = 0, int64_t out_gap = 0)
      : w_{random, type, n, k}, bias_{random, dtype::bf16, 1, n},
        x_(random.floats(rows * (k + x_gap))) {
    round_to_bf16(x_);
    args_ = {x_.data(), w_.get(), {}, nullptr, rows, k + x_gap, n + out_gap, kind % 2 == 1};
    if (kind % 3 != 0)
      args_.bias = bias_.get();
  }
  random_product(const random_product&) = delete;

  /// `out` is the caller's.
  const linear_args& args() const { return args_; }

private:
  test_weight w_;
  random_weight bias_;
  std::vector<float> x_;
  linear_args args_;
};

/// Runs a product on both devices, over what `out` holds. Outputs may differ by `allowed` of the
/// sum of the products' magnitudes; what lies between the rows of `out` may not change.
inline void expect_product_matches(device& device, gpu::device& reference, linear_args args,
                                   random_data& random, float allowed) {
  const auto n = args.w.rows, k = args.w.cols, stride = args.out_stride;
  auto got = random.floats(args.rows * stride);
  auto want = got;
  args.out = got.data();
  device.linear(args);
  args.out = want.data();
  reference.linear(args);
  std::vector<float> w(static_cast<size_t>(n * k));
  for (int64_t row = 0; row < n; ++row)
    cpu::expand_row(args.w, row, w.data() + row * k);
  for (int64_t i = 0; i < args.rows * stride; ++i) {
    const auto column = i % stride;
    float magnitude = 1;
    for (int64_t c = 0; c < k && column < n; ++c)
      magnitude +=
          std::abs(args.x[i / stride * args.x_stride + c] * w[static_cast<size_t>(column * k + c)]);
    ASSERT_NEAR(got[static_cast<size_t>(i)], want[static_cast<size_t>(i)],
                column < n ? magnitude * allowed : 0)
        << to_string(args.w.type) << " " << args.rows << "x" << n << "x" << k << " at " << i;
  }
}

} // namespace troupe::gpu::test
