#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gpu/cpu/blocks.hpp"
#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// What devices make, and all that files have.
constexpr dtype made_formats[] = {dtype::q8_0, dtype::q4_0};
constexpr dtype formats[] = {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0,
                             dtype::q5_1, dtype::q4_k, dtype::q5_k, dtype::q6_k};

constexpr weight_layout layouts[] = {weight_layout::rows, weight_layout::panels};

/// Random weights in blocks; the memory ends where the last block ends.
class quantized {
public:
  quantized(random_data& random, device& by, dtype type, int64_t rows, int64_t cols,
            weight_layout layout = weight_layout::rows)
      : floats_{random.floats(rows * cols, 0.5f)}, type_{type}, rows_{rows}, cols_{cols},
        layout_{layout}, bytes_(bytes_of(type, static_cast<uint64_t>(rows * cols))) {
    if (type == dtype::q8_0 || type == dtype::q4_0) {
      by.quantize({{floats_.data(), dtype::f32, rows, cols}, bytes_.data(), type, layout});
      return;
    }
    const auto blocks = random_blocks(random, type, rows, cols);
    by.quantize({{blocks.data(), type, rows, cols}, bytes_.data(), type, layout});
  }
  weight get() const { return {bytes_.data(), type_, rows_, cols_, layout_}; }
  const std::vector<float>& floats() const { return floats_; }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

private:
  std::vector<float> floats_;
  dtype type_;
  int64_t rows_, cols_;
  weight_layout layout_;
  std::vector<unsigned char> bytes_;
};

/// So many columns, in whole blocks of the type.
int64_t whole_blocks(dtype type, int64_t cols) {
  const auto unit = int64_t{layout_of(type).elements};
  return std::max(cols / unit, int64_t{1}) * unit;
}

/// Every number of a weight.
std::vector<float> expanded(const weight& w) {
  std::vector<float> out(static_cast<size_t>(w.rows * w.cols));
  for (int64_t row = 0; row < w.rows; ++row)
    cpu::expand_row(w, row, out.data() + row * w.cols);
  return out;
}

/// Values that blocks of bytes hold exactly: whole multiples of a power of two, 127 among them.
std::vector<float> exact_in_bytes(random_data& random, int64_t n) {
  std::vector<float> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) {
    const auto block = static_cast<int>(i / 32);
    const auto step = i % 32 == static_cast<size_t>(block % 32) ? 127 : random.between(-127, 127);
    out[i] = std::ldexp(static_cast<float>(step), block % 5 - 9);
  }
  return out;
}

class quantized_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();

  /// Compares `linear` with the reference; outputs may differ by `allowed` of the sum of the
  /// products' magnitudes.
  void expect_match(const linear_args& args, random_data& random, float allowed) {
    const auto n = args.w.rows, k = args.w.cols;
    auto got = random.floats(args.rows * n);
    auto want = got;
    auto mine = args;
    mine.out = got.data();
    fast->linear(mine);
    mine.out = want.data();
    reference->linear(mine);
    const auto w = expanded(args.w);
    for (int64_t i = 0; i < args.rows * n; ++i) {
      float magnitude = 1;
      for (int64_t c = 0; c < k; ++c)
        magnitude += std::abs(args.x[i / n * k + c] * w[static_cast<size_t>(i % n * k + c)]);
      ASSERT_NEAR(got[static_cast<size_t>(i)], want[static_cast<size_t>(i)], magnitude * allowed)
          << to_string(args.w.type) << " " << args.rows << "x" << n << "x" << k << " at " << i;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(isas, quantized_test, testing::ValuesIn(all_modes()),
                         [](const auto& info) { return info.param.name(); });

TEST_P(quantized_test, blocks_are_the_same_bytes_on_every_backend) {
  for (const auto type : formats)
    for (const auto layout : layouts) {
      random_data one{3}, two{3};
      const auto cols = whole_blocks(type, 512);
      EXPECT_EQ(quantized(one, *fast, type, 67, cols, layout).bytes(),
                quantized(two, *reference, type, 67, cols, layout).bytes());
    }
}

TEST_P(quantized_test, laying_out_blocks_gives_what_quantizing_into_the_layout_gives) {
  for (const auto type : formats) {
    random_data one{3}, two{3};
    const auto cols = whole_blocks(type, 512);
    const quantized rows{one, *fast, type, 67, cols};
    const quantized panels{two, *fast, type, 67, cols, weight_layout::panels};
    std::vector<unsigned char> laid_out(rows.bytes().size());
    fast->quantize({rows.get(), laid_out.data(), type, weight_layout::panels});
    EXPECT_EQ(laid_out, panels.bytes());
    EXPECT_EQ(expanded(rows.get()), expanded(panels.get())) << to_string(type);
    const auto all = expanded(rows.get());
    for (int i = 0; i < 200; ++i) {
      const auto row = one.between(0, 66), col = one.between(0, cols - 1);
      EXPECT_EQ(cpu::load_any(rows.get(), row, col), all[static_cast<size_t>(row * cols + col)]);
      EXPECT_EQ(cpu::load_any(panels.get(), row, col), all[static_cast<size_t>(row * cols + col)]);
    }
  }
}

TEST_P(quantized_test, rows_are_looked_up_in_every_layout) {
  random_data random{10};
  for (const auto type : formats)
    for (const auto layout : layouts) {
      const auto cols = whole_blocks(type, 512);
      const quantized w{random, *fast, type, 67, cols, layout};
      const auto all = expanded(w.get());
      const std::vector<int32_t> ids{66, 0, 15, 16, 63, 64};
      std::vector<float> out(ids.size() * static_cast<size_t>(cols));
      fast->embedding({w.get(), ids.data(), out.data(), 6, 0.5f});
      for (size_t i = 0; i < out.size(); ++i) {
        const auto at = static_cast<int64_t>(i);
        const auto from = ids[static_cast<size_t>(at / cols)] * cols + at % cols;
        ASSERT_EQ(out[i], all[static_cast<size_t>(from)] * 0.5f) << to_string(type);
      }
    }
}

TEST_P(quantized_test, blocks_of_a_file_are_made_into_smaller_ones) {
  random_data random{11};
  for (const auto type : {dtype::q5_1, dtype::q6_k}) {
    const quantized w{random, *fast, type, 40, 512};
    const auto floats = expanded(w.get());
    std::vector<unsigned char> got(bytes_of(dtype::q4_0, 40 * 512)), want(got.size());
    fast->quantize({w.get(), got.data(), dtype::q4_0, weight_layout::panels});
    reference->quantize(
        {{floats.data(), dtype::f32, 40, 512}, want.data(), dtype::q4_0, weight_layout::panels});
    EXPECT_EQ(got, want);
  }
}

TEST_P(quantized_test, weights_that_are_no_number_or_too_large_make_the_same_blocks_everywhere) {
  random_data random{12};
  auto floats = random.floats(16 * 128);
  const auto at = [&](size_t row, size_t col) -> float& { return floats[row * 128 + col]; };
  at(1, 3) = std::numeric_limits<float>::quiet_NaN();
  at(2, 40) = -std::numeric_limits<float>::infinity();
  at(3, 127) = 3e38f; // its scale is infinite in 16 bits
  std::fill_n(&at(4, 32), 32, -0.0f);
  std::fill_n(&at(5, 0), 32, 1e-12f); // its scale is zero in 16 bits
  at(6, 7) = 50;
  at(6, 5) = -50;
  for (const auto type : {dtype::q8_0, dtype::q4_0})
    for (const auto layout : layouts) {
      std::vector<unsigned char> got(bytes_of(type, floats.size())), want(got.size());
      const weight w{floats.data(), dtype::f32, 16, 128};
      fast->quantize({w, got.data(), type, layout});
      reference->quantize({w, want.data(), type, layout});
      EXPECT_EQ(got, want) << to_string(type);
    }
}

TEST_P(quantized_test, panels_may_lie_at_any_address) {
  for (const auto type : formats) {
    random_data one{13};
    const quantized rows{one, *fast, type, 48, whole_blocks(type, 512)};
    std::vector<unsigned char> even(rows.bytes().size()), odd(even.size() + 1);
    fast->quantize({rows.get(), even.data(), type, weight_layout::panels});
    fast->quantize({rows.get(), odd.data() + 1, type, weight_layout::panels});
    EXPECT_TRUE(std::equal(even.begin(), even.end(), odd.begin() + 1)) << to_string(type);
  }
}

TEST_P(quantized_test, linear_matches_the_reference) {
  random_data random{4};
  for (const auto type : formats)
    for (int round = 0; round < 40; ++round) {
      const int64_t rows = random.one_of<int64_t>({1, 2, 3, 4, 6, 7, 50, 97});
      const int64_t n = random.between(1, 90);
      const int64_t k = whole_blocks(type, 32 * random.between(1, 60));
      const quantized w{random, *reference, type, n, k, layouts[round / 2 % 2]};
      const auto bias = random.floats(n);
      const auto x = exact_in_bytes(random, rows * k);
      linear_args args{x.data(), w.get(), {bias.data(), dtype::f32, 1, n}, nullptr, rows, k, n};
      args.accumulate = round % 2 == 1;
      expect_match(args, random, 2e-6f);
    }
}

TEST_P(quantized_test, rounding_activations_costs_half_a_step_of_their_block) {
  random_data random{7};
  for (const auto type : formats) {
    const int64_t rows = 9, n = 48, k = 1536;
    const quantized w{random, *reference, type, n, k, fast->best_layout(type)};
    auto x = random.floats(rows * k);
    for (int64_t i = 0; i < rows * k; i += 171)
      x[static_cast<size_t>(i)] *= 50; // as in real activations: a few are far larger
    linear_args args{x.data(), w.get(), {}, nullptr, rows, k, n};
    const auto all = expanded(args.w);
    std::vector<float> got(static_cast<size_t>(rows * n)), want(got.size());
    args.out = got.data();
    fast->linear(args);
    args.out = want.data();
    reference->linear(args);
    for (int64_t i = 0; i < rows * n; ++i) {
      float allowed = 1e-3f;
      for (int64_t at = 0; at < k; at += 32) {
        float extreme = 0, weights = 0;
        for (int64_t c = at; c < at + 32; ++c) {
          extreme = std::max(extreme, std::abs(x[static_cast<size_t>(i / n * k + c)]));
          weights += std::abs(all[static_cast<size_t>(i % n * k + c)]);
        }
        allowed += extreme * weights * (GetParam().rounds_to_bytes() ? 1 / 254.0f : 1e-6f);
      }
      ASSERT_NEAR(got[static_cast<size_t>(i)], want[static_cast<size_t>(i)], allowed);
    }
  }
}

TEST_P(quantized_test, activations_that_are_no_number_spoil_their_row_alone) {
  random_data random{8};
  for (const auto type : formats)
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const auto k = whole_blocks(type, 256);
      const quantized w{random, *reference, type, 20, k, fast->best_layout(type)};
      auto x = random.floats(3 * k);
      x[static_cast<size_t>(k) + 40] = bad;
      std::vector<float> out(60);
      fast->linear({x.data(), w.get(), {}, out.data(), 3, k, 20});
      for (size_t i = 0; i < 60; ++i)
        EXPECT_EQ(std::isfinite(out[i]), i / 20 != 1) << i;
    }
}

TEST_P(quantized_test, zeros_and_tiny_activations_give_zeros) {
  random_data random{9};
  const quantized w{random, *reference, dtype::q8_0, 20, 64, fast->best_layout(dtype::q8_0)};
  for (const float value : {0.0f, 1e-38f, -1e-42f}) {
    const std::vector<float> x(64, value);
    std::vector<float> out(20, 1.0f);
    fast->linear({x.data(), w.get(), {}, out.data(), 1, 64, 20});
    for (const float one : out)
      EXPECT_NEAR(one, 0.0f, 1e-35f);
  }
}

TEST_P(quantized_test, rows_alone_and_in_any_batch_have_the_same_bits) {
  random_data random{5};
  for (const auto type : formats)
    for (const auto layout : layouts)
      for (const int64_t cols : {32, 1120, 3008}) {
        const int64_t rows = 101, n = 77, k = whole_blocks(type, cols);
        const quantized w{random, *reference, type, n, k, layout};
        const auto x = random.floats(rows * k);
        std::vector<float> alone(static_cast<size_t>(rows * n));
        linear_args args{x.data(), w.get(), {}, alone.data(), 1, k, n};
        for (int64_t i = 0; i < rows; ++i) {
          args.x = x.data() + i * k;
          args.out = alone.data() + i * n;
          fast->linear(args);
        }
        for (const int64_t count : {2, 3, 4, 5, 6, 7, 8, 48, 49, 101}) {
          std::vector<float> batch(static_cast<size_t>(count * n));
          args.x = x.data() + (rows - count) * k;
          args.out = batch.data();
          args.rows = count;
          fast->linear(args);
          ASSERT_TRUE(same_bits(batch.data(), alone.data() + (rows - count) * n, count * n))
              << to_string(type) << " k " << k << " rows " << count;
        }
      }
}

TEST(quantized, values_are_within_half_a_step_of_what_they_were) {
  random_data random{6};
  const auto device = make_reference_device();
  for (const auto type : made_formats) {
    const quantized w{random, *device, type, 31, 256};
    for (int64_t i = 0; i < 31 * 256; ++i) {
      float extreme = 0;
      for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j)
        extreme = std::max(extreme, std::abs(w.floats()[static_cast<size_t>(j)]));
      // Half a step, and what the scale's rounding to f16 adds at the ends; q4_0 ends at +7, so a
      // value opposite to the extreme may be a whole step off.
      const float step = type == dtype::q8_0 ? extreme / 127 : extreme / 8;
      const float allowed = step * (type == dtype::q8_0 ? 0.57f : 1.01f);
      ASSERT_NEAR(cpu::load_any(w.get(), i / 256, i % 256), w.floats()[static_cast<size_t>(i)],
                  allowed);
    }
  }
}

TEST(quantized, zeros_stay_zeros_and_what_is_no_number_is_not_hidden) {
  const auto device = make_reference_device();
  for (const auto type : made_formats)
    for (const float bad : {0.0f, std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(), 1e30f}) {
      std::vector<float> values(64);
      values[40] = bad;
      std::vector<unsigned char> out(bytes_of(type, 64));
      device->quantize({{values.data(), dtype::f32, 1, 64}, out.data(), type});
      bool broken = false;
      for (int64_t i = 0; i < 64; ++i) {
        const float value = cpu::load_any({out.data(), type, 1, 64}, 0, i);
        if (bad == 0 || i < 32) {
          EXPECT_EQ(value, 0.0f);
        } else {
          broken |= !std::isfinite(value);
        }
      }
      EXPECT_EQ(broken, bad != 0);
    }
}

} // namespace
} // namespace troupe::gpu
