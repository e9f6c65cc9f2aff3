#include <gtest/gtest.h>

#include <cmath>

#include "gpu/cpu/blocks.hpp"
#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// Products with bf16 weights and with weights in blocks, on tensor cores and in float.
class cuda_blocks_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();

  /// Outputs may differ by `allowed` of the sum of the products' magnitudes.
  void expect_match(linear_args args, random_data& random, float allowed) {
    const auto n = args.w.rows, k = args.w.cols;
    auto got = random.floats(args.rows * n);
    auto want = got;
    args.x_stride = k;
    args.out_stride = n;
    args.out = got.data();
    fast->linear(args);
    args.out = want.data();
    reference->linear(args);
    for (int64_t i = 0; i < args.rows * n; ++i) {
      float magnitude = 1;
      for (int64_t c = 0; c < k; ++c)
        magnitude += std::abs(args.x[i / n * k + c] * cpu::load_any(args.w, i % n, c));
      ASSERT_NEAR(got[static_cast<size_t>(i)], want[static_cast<size_t>(i)], magnitude * allowed)
          << to_string(args.w.type) << " " << args.rows << "x" << n << "x" << k << " at " << i;
    }
  }
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(cuda_blocks_test);
INSTANTIATE_TEST_SUITE_P(modes, cuda_blocks_test, testing::ValuesIn(all_modes()),
                         [](const auto& info) { return info.param.name(); });

std::vector<unsigned char> quantized(device& by, const weight& w, dtype to) {
  std::vector<unsigned char> out(bytes_of(to, static_cast<uint64_t>(w.rows * w.cols)));
  by.quantize({w, out.data(), to});
  return out;
}

TEST_P(cuda_blocks_test, blocks_are_the_same_bytes_as_the_references) {
  random_data random{51};
  const random_weight w{random, dtype::bf16, 67, 320};
  for (const auto type : {dtype::q8_0, dtype::q4_0})
    EXPECT_EQ(quantized(*fast, w.get(), type), quantized(*reference, w.get(), type));
}

TEST_P(cuda_blocks_test, linear_matches_the_reference) {
  random_data random{52};
  for (int round = 0; round < 60; ++round) {
    const auto type = random.one_of({dtype::bf16, dtype::q8_0, dtype::q4_0});
    const int64_t rows = random.one_of<int64_t>({1, 2, 8, 9, 16, 17, 32, 33, 97, 130});
    const int64_t n = random.between(1, 150);
    const int64_t k = type == dtype::bf16 ? 8 * random.between(1, 90) : 32 * random.between(1, 40);
    const random_weight plain{random, dtype::bf16, n, k};
    const auto blocks =
        is_blocks(type) ? quantized(*reference, plain.get(), type) : std::vector<unsigned char>{};
    const auto w = is_blocks(type) ? weight{blocks.data(), type, n, k} : plain.get();
    const random_weight bias{random, dtype::bf16, 1, n};
    auto x = random.floats(rows * k);
    round_to_bf16(x);
    linear_args args;
    args.x = x.data();
    args.w = w;
    if (round % 3 != 0)
      args.bias = bias.get();
    args.rows = rows;
    args.accumulate = round % 2 == 1;
    // In blocks, a weight is rounded to bf16 once more, by 2^-9 at most.
    const bool rounds = is_blocks(type) && GetParam().mode == precision::automatic;
    expect_match(args, random, rounds ? 1.0f / 512 : 2e-6f);
  }
}

TEST_P(cuda_blocks_test, rows_alone_and_in_any_batch_have_the_same_bits) {
  random_data random{53};
  const int64_t rows = 131, n = 77, k = 1120;
  const random_weight plain{random, dtype::bf16, n, k};
  const auto x = random.floats(rows * k);
  for (const auto type : {dtype::bf16, dtype::q8_0, dtype::q4_0}) {
    const auto blocks =
        is_blocks(type) ? quantized(*reference, plain.get(), type) : std::vector<unsigned char>{};
    const auto w = is_blocks(type) ? weight{blocks.data(), type, n, k} : plain.get();
    std::vector<float> alone(static_cast<size_t>(rows * n));
    for (int64_t i = 0; i < rows; ++i)
      fast->linear({x.data() + i * k, w, {}, alone.data() + i * n, 1, k, n});
    for (const int64_t count : {2, 9, 17, 32, 33, 131}) {
      std::vector<float> batch(static_cast<size_t>(count * n));
      fast->linear({x.data() + (rows - count) * k, w, {}, batch.data(), count, k, n});
      ASSERT_TRUE(same_bits(batch.data(), alone.data() + (rows - count) * n, count * n))
          << to_string(type) << " rows " << count;
    }
  }
}

} // namespace
} // namespace troupe::gpu
