#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gpu/cpu/blocks.hpp"
#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

constexpr dtype formats[] = {dtype::q8_0, dtype::q4_0};

/// Random weights in blocks; the memory ends where the last block ends.
class quantized {
public:
  quantized(random_data& random, device& by, dtype type, int64_t rows, int64_t cols)
      : floats_{random.floats(rows * cols, 0.5f)}, type_{type}, rows_{rows}, cols_{cols},
        bytes_(bytes_of(type, static_cast<uint64_t>(rows * cols))) {
    by.quantize({{floats_.data(), dtype::f32, rows, cols}, bytes_.data(), type});
  }
  weight get() const { return {bytes_.data(), type_, rows_, cols_}; }
  const std::vector<float>& floats() const { return floats_; }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

private:
  std::vector<float> floats_;
  dtype type_;
  int64_t rows_, cols_;
  std::vector<unsigned char> bytes_;
};

class quantized_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();
};

INSTANTIATE_TEST_SUITE_P(isas, quantized_test, testing::ValuesIn(all_backends()),
                         [](const auto& info) { return info.param.isa; });

TEST_P(quantized_test, blocks_are_the_same_bytes_on_every_backend) {
  for (const auto type : formats) {
    random_data one{3}, two{3};
    EXPECT_EQ(quantized(one, *fast, type, 67, 320).bytes(),
              quantized(two, *reference, type, 67, 320).bytes());
  }
}

TEST_P(quantized_test, linear_matches_the_reference) {
  random_data random{4};
  for (const auto type : formats)
    for (int round = 0; round < 40; ++round) {
      const int64_t rows = random.one_of<int64_t>({1, 2, 3, 6, 7, 50, 97});
      const int64_t n = random.between(1, 90), k = 32 * random.between(1, 60);
      const quantized w{random, *reference, type, n, k};
      const auto bias = random.floats(n);
      auto x = random.floats(rows * k);
      round_to_bf16(x);
      auto got = random.floats(rows * n);
      auto want = got;
      linear_args args{x.data(), w.get(), {bias.data(), dtype::f32, 1, n}, got.data(), rows, k, n};
      args.accumulate = round % 2 == 1;
      fast->linear(args);
      args.out = want.data();
      reference->linear(args);
      for (int64_t i = 0; i < rows * n; ++i) {
        float magnitude = 1;
        for (int64_t c = 0; c < k; ++c)
          magnitude += std::abs(x[static_cast<size_t>(i / n * k + c)] *
                                cpu::load_any(args.w.data, type, i % n * k + c));
        // Backends with bf16 products round each weight once more, by 2^-9 at most.
        ASSERT_NEAR(got[static_cast<size_t>(i)], want[static_cast<size_t>(i)], magnitude / 512)
            << to_string(type) << " " << rows << "x" << n << "x" << k << " at " << i;
      }
    }
}

TEST_P(quantized_test, rows_alone_and_in_any_batch_have_the_same_bits) {
  random_data random{5};
  for (const auto type : formats)
    for (const int64_t k : {32, 1120, 3008}) {
      const int64_t rows = 101, n = 77;
      const quantized w{random, *reference, type, n, k};
      const auto x = random.floats(rows * k);
      std::vector<float> alone(static_cast<size_t>(rows * n));
      linear_args args{x.data(), w.get(), {}, alone.data(), 1, k, n};
      for (int64_t i = 0; i < rows; ++i) {
        args.x = x.data() + i * k;
        args.out = alone.data() + i * n;
        fast->linear(args);
      }
      for (const int64_t count : {2, 3, 5, 6, 7, 8, 48, 49, 101}) {
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
  for (const auto type : formats) {
    const quantized w{random, *device, type, 31, 256};
    for (int64_t i = 0; i < 31 * 256; ++i) {
      float extreme = 0;
      for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j)
        extreme = std::max(extreme, std::abs(w.floats()[static_cast<size_t>(j)]));
      // Half a step, and what the scale's rounding to f16 adds at the ends; q4_0 ends at +7, so a
      // value opposite to the extreme may be a whole step off.
      const float step = type == dtype::q8_0 ? extreme / 127 : extreme / 8;
      const float allowed = step * (type == dtype::q8_0 ? 0.57f : 1.01f);
      ASSERT_NEAR(cpu::load_any(w.get().data, type, i), w.floats()[static_cast<size_t>(i)],
                  allowed);
    }
  }
}

TEST(quantized, zeros_stay_zeros_and_what_is_no_number_is_not_hidden) {
  const auto device = make_reference_device();
  for (const auto type : formats)
    for (const float bad : {0.0f, std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(), 1e30f}) {
      std::vector<float> values(64);
      values[40] = bad;
      std::vector<unsigned char> out(bytes_of(type, 64));
      device->quantize({{values.data(), dtype::f32, 1, 64}, out.data(), type});
      bool broken = false;
      for (int64_t i = 0; i < 64; ++i) {
        const float value = cpu::load_any(out.data(), type, i);
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
