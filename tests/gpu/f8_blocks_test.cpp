#include <gtest/gtest.h>

#include <cmath>

#include "base/half.hpp"
#include "gpu/cpu/blocks.hpp"
#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// Weights of 8-bit floats with a scale for each 128, on every CPU backend.
class f8_blocks_test : public testing::TestWithParam<backend> {
protected:
  struct case_of {
    case_of(random_data& random, int64_t n, int64_t k)
        : case_of{random_blocks(random, dtype::f8_b128, n, k), n, k} {}
    case_of(std::vector<unsigned char> blocks, int64_t n, int64_t k)
        : bytes{std::move(blocks)}, w{bytes.data(), dtype::f8_b128, n, k},
          laid_out(bytes.size()), panels{laid_out.data(), dtype::f8_b128, n, k,
                                         weight_layout::panels} {
      make_reference_device()->quantize(
          {w, laid_out.data(), dtype::f8_b128, weight_layout::panels});
    }
    std::vector<unsigned char> bytes;
    weight w;
    std::vector<unsigned char> laid_out;
    weight panels;
  };
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();
};

INSTANTIATE_TEST_SUITE_P(isas, f8_blocks_test, testing::ValuesIn(all_modes()),
                         [](const auto& info) { return info.param.name(); });

/// Rows of all codes without a sign and in turn those of all with it, the last of each, a NaN,
/// apart.
std::vector<unsigned char> every_code(size_t rows) {
  std::vector<unsigned char> bytes(rows * 132);
  for (size_t row = 0; row < rows; ++row) {
    const float scale = 0.1f;
    std::memcpy(bytes.data() + row * 132, &scale, sizeof scale);
    for (size_t i = 0; i < 127; ++i)
      bytes[row * 132 + 4 + i] = static_cast<unsigned char>(row % 2 * 128 + i);
  }
  return bytes;
}

TEST_P(f8_blocks_test, every_code_is_looked_up_as_the_format_says) {
  const auto bytes = every_code(2);
  const std::vector<int32_t> ids{1, 0};
  std::vector<float> out(256);
  fast->embedding({{bytes.data(), dtype::f8_b128, 2, 128}, ids.data(), out.data(), 2, 1.0f});
  for (size_t i = 0; i < 127; ++i)
    for (const size_t sign : {0, 1})
      EXPECT_EQ(out[(1 - sign) * 128 + i],
                0.1f * f8_e4m3_to_float(static_cast<uint8_t>(sign * 128 + i)))
          << i;
}

TEST_P(f8_blocks_test, linear_multiplies_every_code) {
  // Each output is one weight, times one.
  constexpr int64_t n = 18;
  const case_of one{every_code(n), n, 128};
  std::vector<float> x(128 * 128), out(128 * n);
  for (size_t i = 0; i < 128; ++i)
    x[i * 128 + i] = 1;
  for (const auto& w : {one.w, one.panels}) {
    fast->linear({x.data(), w, {}, out.data(), 128, 128, n});
    for (size_t i = 0; i < 127; ++i)
      for (size_t col = 0; col < n; ++col)
        EXPECT_EQ(out[i * n + col],
                  0.1f * f8_e4m3_to_float(static_cast<uint8_t>(col % 2 * 128 + i)))
            << i;
  }
}

TEST_P(f8_blocks_test, panels_hold_the_same_numbers) {
  random_data random{64};
  const case_of one{random, 35, 384};
  for (int64_t row = 0; row < 35; ++row)
    for (int64_t col = 0; col < 384; ++col)
      ASSERT_EQ(cpu::load_any(one.panels, row, col), cpu::load_any(one.w, row, col));
}

TEST_P(f8_blocks_test, linear_matches_the_reference) {
  random_data random{61};
  for (int round = 0; round < 60; ++round) {
    const int64_t rows = random.one_of<int64_t>({1, 2, 3, 4, 7, 9, 16, 50, 97});
    const int64_t n = random.between(1, 150), k = 128 * random.between(1, 13);
    const case_of one{random, n, k};
    const auto bias = random.floats(n);
    auto x = random.floats(rows * k);
    round_to_bf16(x); // which some machines do
    auto got = random.floats(rows * n);
    auto want = got;
    linear_args args{x.data(), one.w, {bias.data(), dtype::f32, 1, n}, want.data(), rows, k, n};
    args.accumulate = round % 2 == 1;
    reference->linear(args);
    args.out = got.data();
    args.w = round % 3 == 0 ? one.w : one.panels;
    fast->linear(args);
    std::vector<float> w(static_cast<size_t>(k));
    for (int64_t i = 0; i < rows * n; ++i) {
      cpu::expand_row(one.w, i % n, w.data());
      float magnitude = 1;
      for (int64_t c = 0; c < k; ++c)
        magnitude += std::abs(x[static_cast<size_t>(i / n * k + c)] * w[static_cast<size_t>(c)]);
      ASSERT_NEAR(got[static_cast<size_t>(i)], want[static_cast<size_t>(i)], magnitude * 2e-6f)
          << rows << "x" << n << "x" << k << " at " << i;
    }
  }
}

TEST_P(f8_blocks_test, rows_alone_and_in_any_batch_have_the_same_bits) {
  random_data random{62};
  for (const int64_t k : {128, 1280, 3072}) {
    const int64_t rows = 109, n = 83;
    const case_of one{random, n, k};
    const auto x = random.floats(rows * k);
    for (const auto& w : {one.w, one.panels}) {
      std::vector<float> alone(static_cast<size_t>(rows * n));
      for (int64_t i = 0; i < rows; ++i)
        fast->linear({x.data() + i * k, w, {}, alone.data() + i * n, 1, k, n});
      for (const int64_t count : {2, 3, 5, 6, 8, 9, 16, 47, 53, 109}) {
        const auto first = random.between(0, rows - count);
        std::vector<float> batch(static_cast<size_t>(count * n));
        fast->linear({x.data() + first * k, w, {}, batch.data(), count, k, n});
        ASSERT_TRUE(same_bits(batch.data(), alone.data() + first * n, count * n))
            << "k " << k << " rows " << count;
      }
    }
  }
}

TEST_P(f8_blocks_test, they_are_made_into_smaller_ones) {
  random_data random{63};
  const case_of one{random, 40, 512};
  std::vector<unsigned char> got(bytes_of(dtype::q4_0, 40 * 512)), want(got.size());
  fast->quantize({one.w, got.data(), dtype::q4_0, weight_layout::panels});
  reference->quantize({one.w, want.data(), dtype::q4_0, weight_layout::panels});
  EXPECT_EQ(got, want);
}

} // namespace
} // namespace troupe::gpu
