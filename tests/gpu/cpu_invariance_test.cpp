#include <gtest/gtest.h>

#include <functional>

#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// A row's bits depend on that row alone, never on the batch, the prompt's chunks or the threads.
class cpu_invariance_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> dev = GetParam().make();
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(cpu_invariance_test);
INSTANTIATE_TEST_SUITE_P(isas, cpu_invariance_test, testing::ValuesIn(all_backends()),
                         [](const auto& info) { return info.param.isa; });

TEST_P(cpu_invariance_test, linear_rows_alone_and_in_any_batch_have_the_same_bits) {
  random_data random{21};
  for (const auto type : {dtype::f32, dtype::f16, dtype::bf16})
    for (const int64_t k : {40, 129, 1111, 3000}) {
      const int64_t rows = 109, n = 83;
      const random_weight w{random, type, n, k};
      const auto x = random.floats(rows * k);
      std::vector<float> alone(static_cast<size_t>(rows * n));
      linear_args args{x.data(), w.get(), {}, alone.data(), 1, k, n};
      for (int64_t i = 0; i < rows; ++i) {
        args.x = x.data() + i * k;
        args.out = alone.data() + i * n;
        dev->linear(args);
      }
      for (const int64_t count : {2, 3, 4, 5, 6, 7, 8, 9, 12, 47, 48, 53, 109}) {
        const auto first = random.between(0, rows - count);
        std::vector<float> batch(static_cast<size_t>(count * n));
        args.x = x.data() + first * k;
        args.out = batch.data();
        args.rows = count;
        dev->linear(args);
        ASSERT_TRUE(same_bits(batch.data(), alone.data() + first * n, count * n))
            << to_string(type) << " k " << k << " rows " << count;
      }
    }
}

TEST_P(cpu_invariance_test, attention_does_not_depend_on_how_a_prompt_is_cut) {
  random_data random{22};
  for (int round = 0; round < 24; ++round) {
    attention_shape shape;
    shape.head_dim = random.one_of<int64_t>({20, 64, 128});
    shape.group = random.between(1, 8);
    shape.kv_heads = random.between(1, 2);
    shape.window = random.one_of<int64_t>({0, 0, 3, 50, 64});
    shape.type = random.one_of({dtype::f32, dtype::bf16, dtype::i8});
    if (!dev->keeps_kv(shape.type))
      shape.type = dtype::bf16;
    shape.rows = {static_cast<int32_t>(random.between(1, 150))};
    shape.context = {shape.rows[0] + static_cast<int32_t>(random.between(0, 100))};
    attention_case test{random, shape};
    const auto whole = test.run(*dev);
    std::vector<float> cut(whole.size());
    auto args = test.args(cut.data());
    const int64_t rows = shape.rows[0];
    for (int64_t at = 0; at < rows;) {
      const auto count = std::min(random.one_of<int64_t>({1, 2, 17, 40}), rows - at);
      const int32_t start[] = {0, static_cast<int32_t>(count)};
      const auto context = static_cast<int32_t>(shape.context[0] - rows + at + count);
      args.q = test.args(nullptr).q + at * args.q_stride;
      args.out = cut.data() + at * args.out_stride;
      args.row_start = start;
      args.context = &context;
      dev->attention(args);
      at += count;
    }
    ASSERT_TRUE(same_bits(whole.data(), cut.data(), static_cast<int64_t>(cut.size())))
        << "round " << round;
  }
}

/// Attention of 30 sequences at once gives the bits of 30 calls.
void expect_sequences_independent(device& dev, random_data& random, dtype type) {
  attention_shape shape{64, 2, 3, 16, 0, type, {}, {}};
  for (int s = 0; s < 30; ++s) {
    shape.rows.push_back(static_cast<int32_t>(random.one_of<int64_t>({1, 1, 9})));
    shape.context.push_back(shape.rows.back() + static_cast<int32_t>(random.between(0, 300)));
  }
  attention_case test{random, shape};
  const auto together = test.run(dev);
  std::vector<float> apart(together.size());
  auto args = test.args(apart.data());
  const auto all = args;
  args.sequences = 1;
  for (int64_t s = 0; s < 30; ++s) {
    const auto first = all.row_start[s];
    const int32_t start[] = {0, all.row_start[s + 1] - first};
    args.q = all.q + first * all.q_stride;
    args.out = apart.data() + first * all.out_stride;
    args.row_start = start;
    args.context = all.context + s;
    args.block_table = all.block_table + s * all.table_stride;
    dev.attention(args);
  }
  EXPECT_TRUE(same_bits(together.data(), apart.data(), static_cast<int64_t>(apart.size())));
}

TEST_P(cpu_invariance_test, attention_of_a_sequence_does_not_depend_on_its_neighbours) {
  random_data random{23};
  for (const auto type : {dtype::bf16, dtype::i8})
    if (dev->keeps_kv(type))
      expect_sequences_independent(*dev, random, type);
}

// Alone, a long context is cut into parts that threads share; among many sequences one thread walks
// it. A window begins in the middle of a part.
TEST_P(cpu_invariance_test, a_long_context_gives_the_same_bits_alone_and_among_others) {
  random_data random{26};
  for (const auto type : {dtype::f32, dtype::bf16, dtype::i8})
    for (const int64_t window : {0, 700}) {
      if (!dev->keeps_kv(type))
        continue;
      attention_shape shape{64, 1, 3, 16, window, type, {1, 9}, {1700, 1030}};
      for (int s = 0; s < 40; ++s) {
        shape.rows.push_back(9);
        shape.context.push_back(20);
      }
      attention_case test{random, shape};
      const auto together = test.run(*dev);
      const auto count = 10 * test.width();
      std::vector<float> alone(static_cast<size_t>(count));
      auto args = test.args(alone.data());
      args.sequences = 2;
      dev->attention(args);
      EXPECT_TRUE(same_bits(alone.data(), together.data(), count)) << to_string(type);
    }
}

/// Calls run(device, rows, first row, out) for the whole batch and for every row alone.
void expect_rows_independent(device& dev, int64_t rows, int64_t cols,
                             const std::function<void(device&, int64_t, int64_t, float*)>& run) {
  std::vector<float> batch(static_cast<size_t>(rows * cols)), alone(batch.size());
  run(dev, rows, 0, batch.data());
  for (int64_t i = 0; i < rows; ++i)
    run(dev, 1, i, alone.data() + i * cols);
  EXPECT_TRUE(same_bits(batch.data(), alone.data(), rows * cols));
}

TEST_P(cpu_invariance_test, norms_and_activations_of_a_row_do_not_depend_on_the_batch) {
  random_data random{24};
  const int64_t rows = 70, cols = 611;
  const auto x = random.floats(rows * cols), up = random.floats(rows * cols);
  const random_weight gain{random, dtype::bf16, 1, cols};
  expect_rows_independent(*dev, rows, cols, [&](device& on, int64_t n, int64_t at, float* out) {
    on.rms_norm({x.data() + at * cols, out, gain.get(), n, 1, cols, cols, cols});
  });
  for (const auto act : {activation::silu, activation::gelu, activation::gelu_tanh})
    expect_rows_independent(*dev, rows, cols, [&](device& on, int64_t n, int64_t at, float* out) {
      on.gated_activation(
          {x.data() + at * cols, up.data() + at * cols, out, n, cols, cols, cols, cols, act});
    });
}

TEST_P(cpu_invariance_test, one_two_and_three_threads_give_the_same_bits) {
  random_data random{25};
  const int64_t rows = 65, n = 300, k = 700;
  const random_weight w{random, dtype::bf16, n, k};
  const auto x = random.floats(rows * k);
  attention_case attend{random, {64, 2, 4, 16, 0, dtype::bf16, {1, 50, 1}, {900, 130, 411}}};
  std::vector<float> first_linear, first_attention;
  for (const unsigned threads : {1u, 2u, 3u}) {
    auto which = GetParam();
    which.threads = threads;
    const auto other = which.make();
    std::vector<float> out(static_cast<size_t>(rows * n));
    other->linear({x.data(), w.get(), {}, out.data(), rows, k, n});
    const auto attention = attend.run(*other);
    if (threads == 1) {
      first_linear = out;
      first_attention = attention;
      continue;
    }
    EXPECT_TRUE(same_bits(out.data(), first_linear.data(), rows * n)) << threads;
    EXPECT_TRUE(
        same_bits(attention.data(), first_attention.data(), static_cast<int64_t>(attention.size())))
        << threads;
  }
}

} // namespace
} // namespace troupe::gpu
