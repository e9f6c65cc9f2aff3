#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gpu/cuda/wide_products.hpp"
#include "gpu/device.hpp"
#include "tests/gpu/linear_cases.hpp"
#include "tests/gpu/queued_pieces.hpp"

namespace troupe::gpu {
namespace {

using namespace test;
namespace emulated = cublaslt_emulation;

constexpr int64_t scaled = 128; ///< columns that share a scale
/// Most by which an 8-bit float of three bits is off what it was made of; below its smallest normal
/// number, 2^-6, it is off by half of 2^-9.
constexpr float f8_error = 1.0f / 16, f8_smallest_error = 0x1p-10f;

/// The 8-bit float that is nearest, the even one of two.
float nearest_f8(float value) {
  uint8_t best = 0;
  for (uint8_t code = 1; code < 0x7f; ++code) {
    const double there = std::abs(f8_e4m3_to_float(code) - double{std::abs(value)});
    const double so_far = std::abs(f8_e4m3_to_float(best) - double{std::abs(value)});
    if (there < so_far || (there == so_far && code % 2 == 0))
      best = code;
  }
  return std::copysign(f8_e4m3_to_float(best), value);
}

float largest_of(const float* x) {
  float out = 0;
  for (int64_t i = 0; i < scaled; ++i)
    out = std::max(out, std::abs(x[i]));
  return out;
}

/// A row of x as 8-bit floats with a scale for each 128 columns, and how far from x each may be.
struct rounded_row {
  std::vector<double> values, apart;
};
rounded_row rounded(const float* x, int64_t k) {
  rounded_row out;
  for (int64_t i = 0; i < k; ++i) {
    const float scale = largest_of(x + i / scaled * scaled) / 448;
    out.values.push_back(double{scale * nearest_f8(x[i] / scale)});
    out.apart.push_back(double{std::max(f8_error * std::abs(x[i]), f8_smallest_error * scale)});
  }
  return out;
}

/// A product of a row with 8-bit floats as it should be, and how far it may be from one of floats.
struct wanted {
  double f8 = 0, plain = 0, apart = 0, magnitude = 0;
};
wanted product_of(const float* x, const rounded_row& row, const float* w) {
  wanted out;
  for (size_t i = 0; i < row.values.size(); ++i) {
    const double weight = w[i];
    out.f8 += row.values[i] * weight;
    out.plain += double{x[i]} * weight;
    out.magnitude += std::abs(x[i] * weight);
    out.apart += std::abs(weight) * row.apart[i];
  }
  return out;
}

/// On an emulated device of compute capability 9.0.
class f8_products_test : public testing::Test {
protected:
  void SetUp() override {
    emulated::reset();
    cuda_emulation::set_capability(9, 0);
  }
  void TearDown() override {
    emulated::reset();
    cuda_emulation::set_capability(8, 0);
  }

  std::unique_ptr<device> open() {
    device_options options;
    options.wide = products::fastest;
    options.warn = [this](const std::string& what) { warnings.push_back(what); };
    auto made = make_cuda_device(0, options);
    EXPECT_TRUE(made) << describe(made.error());
    return std::move(*made);
  }

  /// Blocks of weights, and of x, are up to 1e4 times as large as others.
  std::vector<unsigned char> uneven_weights(int64_t n, int64_t k) {
    auto out = random_blocks(random, dtype::f8_b128, n, k);
    const auto bytes = layout_of(dtype::f8_b128).bytes;
    for (size_t at = 0; at < out.size(); at += bytes) {
      const float scale = 1e-4f * std::pow(10.0f, static_cast<float>(random.between(0, 4)));
      std::memcpy(out.data() + at, &scale, sizeof scale);
    }
    return out;
  }
  std::vector<float> uneven_rows(int64_t rows, int64_t stride) {
    auto out = random.floats(rows * stride);
    for (size_t at = 0; at < out.size(); at += scaled) {
      const float scale = std::pow(10.0f, static_cast<float>(random.between(-2, 2)));
      for (size_t i = at; i < std::min(at + scaled, out.size()); ++i)
        out[i] *= scale;
    }
    round_to_bf16(out);
    return out;
  }

  /// Checks `got` of a product, columns up to `columns`; `before` is what was there.
  static void expect_product(const linear_args& args, const std::vector<float>& got,
                             const std::vector<float>& before, int64_t columns) {
    const auto k = args.w.cols;
    std::vector<float> w(static_cast<size_t>(args.w.rows * k));
    for (int64_t row = 0; row < args.w.rows; ++row)
      cpu::expand_row(args.w, row, w.data() + row * k);
    for (int64_t row = 0; row < args.rows; ++row) {
      const float* x = args.x + row * args.x_stride;
      const auto by_f8 = rounded(x, k);
      for (int64_t column = 0; column < args.out_stride; ++column) {
        const auto at = static_cast<size_t>(row * args.out_stride + column);
        if (column >= columns) {
          ASSERT_EQ(got[at], before[at]) << row << " " << column;
          continue;
        }
        const auto want = product_of(x, by_f8, w.data() + column * k);
        double added = args.accumulate ? double{before[at]} : 0;
        if (args.bias)
          added += double{cpu::load_element(args.bias.data, args.bias.type, column)};
        const double sums = (want.magnitude + std::abs(added)) * 1e-5;
        // What is left of rows in fours is rounded to bf16.
        const bool is_f8 = row < args.rows / 4 * 4;
        const double by_bf16 = want.magnitude / 256;
        ASSERT_NEAR(got[at], (is_f8 ? want.f8 : want.plain) + added, sums + (is_f8 ? 0 : by_bf16))
            << "row " << row << " column " << column;
        ASSERT_NEAR(got[at], want.plain + added, sums + (is_f8 ? want.apart : by_bf16))
            << "row " << row << " column " << column;
      }
    }
  }

  std::vector<std::string> warnings;
  random_data random{81};
};

TEST_F(f8_products_test, x_is_rounded_by_row_and_128_columns_and_scales_are_those_of_their_block) {
  const auto dev = open();
  int round = 0;
  for (const int64_t rows : {256, 257, 258, 259, 299, 300})
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{128, 128}, {20, 384}, {4, 640}}) {
      const auto bytes = uneven_weights(n, k);
      const random_weight bias{random, dtype::bf16, 1, n};
      const auto x_stride = k + random.one_of<int64_t>({0, 4, 5});
      const auto x = uneven_rows(rows, x_stride);
      linear_args args;
      args.x = x.data();
      args.w = {bytes.data(), dtype::f8_b128, n, k};
      if (round % 3 != 0)
        args.bias = bias.get();
      args.rows = rows;
      args.x_stride = x_stride;
      args.out_stride = n + random.one_of<int64_t>({0, 4});
      args.accumulate = round++ % 2 == 1;
      const auto before = random.floats(rows * args.out_stride);
      auto got = before;
      args.out = got.data();
      dev->linear(args);
      expect_product(args, got, before, n);
    }
  EXPECT_EQ(emulated::counted().f8_products, 18u);
  EXPECT_EQ(emulated::counted().products, 18u);
  EXPECT_TRUE(warnings.empty());
}

/// Products that are queued without a device.
class split_f8_products : public f8_products_test {
protected:
  /// Queues one over what is there, weights about `piece` rows at a time; checks what was queued,
  /// and gives how many columns that are.
  int64_t queue(int64_t rows, int64_t n, int64_t k, int64_t piece) {
    const auto bytes = uneven_weights(n, k);
    const random_weight bias{random, dtype::bf16, 1, n};
    const auto x = uneven_rows(rows, k);
    const auto before = random.floats(rows * n);
    auto got = before;
    cuda::wide_limits limits;
    limits.f8 = true;
    limits.widened_rows_min = 1;
    limits.widened_bytes_max =
        static_cast<uint64_t>(piece * (k + k / scaled * static_cast<int64_t>(sizeof(float))));
    const linear_args args{
        x.data(), {bytes.data(), dtype::f8_b128, n, k}, bias.get(), got.data(), rows, k, n, true};
    const auto done = queued_columns(args, limits);
    expect_product(args, got, before, done);
    return done;
  }
};

TEST_F(split_f8_products, weights_are_split_in_pieces_and_a_refusal_leaves_the_rest_as_it_was) {
  for (const size_t products_max : {SIZE_MAX, size_t{2}, size_t{0}}) {
    emulated::reset({.products_max = products_max});
    const auto done = queue(258, 68, 256, 20);
    EXPECT_EQ(done, products_max == 0 ? 0 : products_max == 2 ? 48 : 68); // 24, 24, 20
  }
}

TEST_F(split_f8_products, any_number_of_rows_may_be_multiplied) {
  for (const int64_t rows : {1, 3, 4, 5, 31, 63, 64, 66, 127, 129, 255}) {
    emulated::reset();
    EXPECT_EQ(queue(rows, 12, 384, 1000), 12) << rows;
    EXPECT_EQ(emulated::counted().f8_products, rows < 4 ? 0u : 1u) << rows;
  }
}

/// What a device of that compute capability gives, with that library.
class f8_elsewhere : public f8_products_test {
protected:
  /// The product; how many the library got of any type, and of 8-bit floats.
  std::vector<float> product(const linear_args& args, size_t wide, size_t f8) {
    const auto before = emulated::counted();
    std::vector<float> out(static_cast<size_t>(args.rows * args.out_stride), 0.5f);
    auto with = args;
    with.out = out.data();
    open()->linear(with);
    EXPECT_EQ(emulated::counted().products - before.products, wide);
    EXPECT_EQ(emulated::counted().f8_products - before.f8_products, f8);
    return out;
  }
};

TEST_F(f8_elsewhere, other_devices_and_older_libraries_multiply_bf16) {
  const int64_t rows = 260, n = 24, k = 256;
  const auto bytes = uneven_weights(n, k);
  const auto x = uneven_rows(rows, k);
  const linear_args args{x.data(), {bytes.data(), dtype::f8_b128, n, k}, {}, nullptr, rows, k, n,
                         true};
  cuda_emulation::set_capability(8, 0);
  const auto want = product(args, 1, 0);
  for (const auto& [major, minor] : {std::pair{8, 9}, {10, 0}, {12, 0}}) {
    cuda_emulation::set_capability(major, minor);
    EXPECT_EQ(product(args, 1, 0), want) << major << "." << minor;
  }
  cuda_emulation::set_capability(9, 0);
  emulated::reset({.version = 120805});
  EXPECT_EQ(product(args, 1, 0), want);
  EXPECT_TRUE(warnings.empty());
  emulated::reset({.version = 120900});
  EXPECT_NE(product(args, 1, 1), want);

  // A library that has no kernel after all is asked, and that is said.
  emulated::reset({.no_f8 = true});
  EXPECT_EQ(product(args, 1, 0), want);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0], "cuda:0 (emulated): cuBLASLt does not multiply [260, "
                         "256] with [24, 256] in f8_e4m3: status 15; weights of 8-bit floats that "
                         "it refuses are made into bf16");
}

TEST_F(f8_elsewhere, a_refusal_is_said_once_a_device) {
  emulated::reset({.no_f8 = true});
  const auto dev = open();
  const int64_t rows = 256, k = 128;
  const auto x = random.floats(rows * k);
  for (const int64_t n : {8, 8, 16}) {
    const test_weight w{random, dtype::f8_b128, n, k};
    std::vector<float> out(static_cast<size_t>(rows * n));
    dev->linear({x.data(), w.get(), {}, out.data(), rows, k, n});
  }
  EXPECT_EQ(emulated::counted().products, 3u);
  EXPECT_EQ(warnings.size(), 1u);
}

TEST_F(f8_elsewhere, few_rows_and_columns_that_are_not_in_fours_are_not_for_it) {
  const int64_t k = 128;
  const auto x = random.floats(300 * k);
  const auto shape = [&](const test_weight& w, int64_t rows, int64_t gap) {
    return linear_args{x.data(), w.get(), {}, nullptr, rows, k, w.get().rows + gap};
  };
  const test_weight even{random, dtype::f8_b128, 8, k}, odd{random, dtype::f8_b128, 6, k};
  product(shape(even, 255, 0), 0, 0);
  product(shape(even, 256, 0), 1, 1);
  product(shape(even, 256, 1), 1, 0);
  product(shape(odd, 256, 2), 1, 0);
  const test_weight bytes{random, dtype::q8_0, 8, k};
  product(shape(bytes, 256, 0), 1, 0);
  EXPECT_TRUE(warnings.empty());
}

TEST_F(f8_elsewhere, zeros_and_what_is_no_number_stay_in_their_rows) {
  const int64_t rows = 256, n = 8, k = 256;
  auto x = random.floats(rows * k);
  const auto row = [&](int64_t i) { return x.begin() + i * k; };
  row(1)[3] = std::nanf("");
  row(2)[200] = INFINITY;
  row(3)[0] = -INFINITY;
  std::fill(row(4), row(5), 0.0f);
  std::fill(row(5), row(6), 1e-44f);
  std::fill(row(6), row(6) + scaled, -1e30f);
  const test_weight w{random, dtype::f8_b128, n, k};
  const auto out = product({x.data(), w.get(), {}, nullptr, rows, k, n}, 1, 1);
  for (int64_t i = 0; i < rows * n; ++i) {
    const float value = out[static_cast<size_t>(i)];
    EXPECT_EQ(std::isfinite(value), i / n < 1 || i / n > 3) << i / n;
    if (i / n == 4 || i / n == 5) {
      EXPECT_NEAR(value, 0, i / n == 4 ? 0 : 1e-36f) << i;
    }
  }
}

} // namespace
} // namespace troupe::gpu
