#include <gtest/gtest.h>

#include <cmath>

#include "tests/gpu/linear_cases.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// A device whose products of many rows may go to cuBLASLt. Where that is missing they do not, and
/// have to be as right.
class cuda_products_test : public testing::TestWithParam<backend> {
protected:
  static std::unique_ptr<device> opened(products wide) {
    auto how = GetParam();
    how.wide = wide;
    return how.make();
  }
  /// Whether many rows are rounded to 8-bit floats, which are off by a sixteenth at most, where the
  /// weights are such.
  static bool may_round_to_f8(const linear_args& args) {
    const auto found = cuda_devices();
    return found && found->front().major == 9 && GetParam().mode == precision::automatic &&
           args.w.type == dtype::f8_b128 && args.rows >= 256;
  }
  std::unique_ptr<device> fast = opened(products::fastest);
  std::unique_ptr<device> reference = make_reference_device();
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(cuda_products_test);
INSTANTIATE_TEST_SUITE_P(modes, cuda_products_test, testing::ValuesIn(all_modes()),
                         [](const auto& info) { return info.param.name(); });

// Every type, on both sides of where the library begins; rows of x and of out lie apart, or not.
TEST_P(cuda_products_test, linear_of_many_rows_matches_the_reference) {
  random_data random{61};
  constexpr dtype types[] = {dtype::bf16, dtype::f16,  dtype::f32,  dtype::q8_0,
                             dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1,
                             dtype::q4_k, dtype::q5_k, dtype::q6_k, dtype::f8_b128};
  for (int round = 0; round < 60; ++round) {
    const auto type = types[round % std::size(types)];
    const int64_t rows = random.one_of<int64_t>({127, 128, 129, 200, 255, 256, 300, 513});
    const int64_t n = random.one_of<int64_t>({1, 8, 40, random.between(1, 50)});
    const int64_t k = whole_blocks(type, random.between(1, 300));
    const random_product one{random,
                             type,
                             rows,
                             n,
                             k,
                             round,
                             random.one_of<int64_t>({0, 4, 5}),
                             random.one_of<int64_t>({0, 4, 7})};
    // In blocks, a weight is rounded to bf16 once more: by 2^-8 at most, less in a sum.
    const bool rounds = is_blocks(type) && GetParam().mode == precision::automatic;
    const float allowed = may_round_to_f8(one.args()) ? 1.0f / 16 : rounds ? 1.0f / 512 : 4e-6f;
    expect_product_matches(*fast, *reference, one.args(), random, allowed);
  }
}

// Steps that only write, and prompts that are hardly longer, have the bits of the other mode.
TEST_P(cuda_products_test, few_rows_have_the_bits_of_the_invariant_mode) {
  const auto usual = opened(products::invariant);
  random_data random{62};
  for (const auto type : {dtype::bf16, dtype::f16, dtype::q8_0, dtype::q4_k}) {
    const int64_t n = 40, k = whole_blocks(type, 256);
    const test_weight w{random, type, n, k};
    for (const int64_t rows : {1, 8, 64, 127}) {
      const auto x = random.floats(rows * k);
      std::vector<float> got(static_cast<size_t>(rows * n)), want(got.size());
      fast->linear({x.data(), w.get(), {}, got.data(), rows, k, n});
      usual->linear({x.data(), w.get(), {}, want.data(), rows, k, n});
      EXPECT_TRUE(same_bits(got.data(), want.data(), rows * n)) << to_string(type) << " " << rows;
    }
  }
}

TEST_P(cuda_products_test, the_same_call_gives_the_same_bits) {
  random_data random{63};
  for (const auto type : {dtype::bf16, dtype::q4_k, dtype::f8_b128}) {
    const int64_t rows = 300, n = 72, k = 512;
    const test_weight w{random, type, n, k};
    const auto x = random.floats(rows * k);
    std::vector<float> first(static_cast<size_t>(rows * n)), again(first.size());
    fast->linear({x.data(), w.get(), {}, first.data(), rows, k, n});
    fast->linear({x.data(), w.get(), {}, again.data(), rows - 1, k, n}); // and something between
    fast->linear({x.data(), w.get(), {}, again.data(), rows, k, n});
    EXPECT_TRUE(same_bits(first.data(), again.data(), rows * n)) << to_string(type);
  }
}

TEST_P(cuda_products_test, numbers_beyond_f16_saturate_and_what_is_no_number_stays) {
  random_data random{64};
  const int64_t rows = 130, n = 8, k = 16;
  const test_weight w{random, dtype::f16, n, k};
  auto x = random.floats(rows * k);
  x[3] = 1e9f;
  x[k] = std::nanf("");
  x[2 * k] = INFINITY;
  std::vector<float> out(static_cast<size_t>(rows * n));
  fast->linear({x.data(), w.get(), {}, out.data(), rows, k, n});
  for (int64_t i = 0; i < rows * n; ++i)
    EXPECT_EQ(std::isfinite(out[static_cast<size_t>(i)]), i / n != 1 && i / n != 2) << i;
}

} // namespace
} // namespace troupe::gpu
