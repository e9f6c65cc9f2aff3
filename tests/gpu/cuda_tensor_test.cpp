#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "gpu/kernels/attention.cuh"
#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// The tensor-core kernels, which round queries and softmax weights to bf16.
class cuda_tensor_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();

  /// Rounding a weight moves it by 2^-8 of itself at most, an output by that much of the largest.
  void expect_attention_close(attention_case& test) {
    const auto got = test.run(*fast), want = test.run(*reference);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i], 0.02f) << "element " << i;
  }
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(cuda_tensor_test);
INSTANTIATE_TEST_SUITE_P(modes, cuda_tensor_test, testing::ValuesIn(all_backends()),
                         [](const auto& info) { return info.param.isa; });

TEST_P(cuda_tensor_test, attention_matches_the_reference_for_random_batches) {
  random_data random{41};
  for (int round = 0; round < 40; ++round) {
    attention_shape shape;
    shape.head_dim = random.one_of<int64_t>({64, 96, 128, 256});
    shape.kv_heads = random.between(1, 3);
    shape.group = random.between(1, 9);
    shape.block_size = random.one_of<int64_t>({1, 5, 16, 32, 100});
    shape.window = random.one_of<int64_t>({0, 0, 1, 7, 64, 300});
    shape.type = round % 2 == 0 ? dtype::bf16 : dtype::i8;
    const auto sequences = random.one_of<int64_t>({1, 2, 5, 40});
    for (int64_t s = 0; s < sequences; ++s) {
      const auto rows = random.one_of<int64_t>({0, 1, 1, 2, random.between(1, 20)});
      shape.rows.push_back(static_cast<int32_t>(rows));
      const auto past = sequences > 5 ? random.between(0, 60) : random.between(0, 600);
      shape.context.push_back(static_cast<int32_t>(rows + past));
    }
    SCOPED_TRACE(testing::Message() << "round " << round);
    attention_case test{random, shape};
    expect_attention_close(test);
  }
}

TEST_P(cuda_tensor_test, attention_matches_the_reference_over_thousands_of_positions) {
  random_data random{42};
  for (const auto type : {dtype::bf16, dtype::i8})
    for (const int64_t window : {0, 1000}) {
      attention_case test{random, {64, 2, 4, 16, window, type, {1, 3}, {3001, 4096}}};
      expect_attention_close(test);
    }
}

/// One decode row of a long context is split; among many rows of prompts the same row is not.
void expect_splits_change_nothing(device& dev, dtype type) {
  random_data random{43};
  attention_shape shape{64, 1, 4, 16, 0, type, {1}, {2000}};
  for (int s = 0; s < 40; ++s) {
    shape.rows.push_back(30);
    shape.context.push_back(40);
  }
  attention_case test{random, shape};
  test.write(dev);
  attention_args probe = test.args(nullptr);
  probe.rows = test.rows();
  ASSERT_EQ(kernels::plan_attention(probe, 2).splits, 1);
  const auto together = test.run(dev);
  std::vector<float> alone(static_cast<size_t>(test.width()));
  auto args = test.args(alone.data());
  args.sequences = 1;
  probe = args;
  probe.rows = 1;
  ASSERT_GT(kernels::plan_attention(probe, 2).splits, 1);
  dev.attention(args);
  EXPECT_TRUE(same_bits(alone.data(), together.data(), test.width())) << to_string(type);
}

TEST_P(cuda_tensor_test, attention_has_the_same_bits_whether_splits_run_side_by_side_or_not) {
  for (const auto type : {dtype::bf16, dtype::i8})
    expect_splits_change_nothing(*fast, type);
}

// In int8, what is not finite has a scale of NaN: rows that see the token show it, no others do.
TEST_P(cuda_tensor_test, a_broken_token_of_an_int8_cache_spoils_the_rows_that_see_it_alone) {
  random_data random{45};
  constexpr int64_t dim = 64, rows = 24, broken = 9;
  for (const bool of_key : {true, false}) {
    auto k = random.floats(rows * dim), v = random.floats(rows * dim),
         q = random.floats(rows * dim);
    (of_key ? k : v)[broken * dim + 5] = INFINITY;
    const paged_cache cache{dtype::i8, 2, 1, 16, dim};
    std::vector<float> out(rows * dim);
    std::vector<int64_t> slots;
    for (int64_t i = 0; i < rows; ++i)
      slots.push_back(cache.slot(i));
    fast->kv_write({k.data(), v.data(), cache.view(), slots.data(), rows, dim, dim});
    const int32_t start[] = {0, rows}, context[] = {rows}, table[] = {0, cache.number(1)};
    attention_args args{q.data(), cache.view(), start, context, table, 2, 1, 1};
    args.out = out.data();
    args.q_stride = args.out_stride = dim;
    args.rows = rows;
    fast->attention(args);
    for (int64_t i = 0; i < rows * dim; ++i)
      ASSERT_EQ(std::isnan(out[static_cast<size_t>(i)]), i / dim >= broken) << i / dim;
  }
}

TEST_P(cuda_tensor_test, attention_lets_a_nan_through) {
  random_data random{44};
  attention_case test{random, {64, 1, 2, 16, 0, dtype::bf16, {1}, {300}}};
  test.write(*fast);
  auto args = test.args(nullptr);
  std::vector<float> q(static_cast<size_t>(test.width()), std::nanf("")), out(q.size());
  args.q = q.data();
  args.out = out.data();
  fast->attention(args);
  for (const float value : out)
    ASSERT_TRUE(std::isnan(value));
}

} // namespace
} // namespace troupe::gpu
