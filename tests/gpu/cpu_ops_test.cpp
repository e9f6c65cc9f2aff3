#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/gpu/random_ops.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

class cpu_ops_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(cpu_ops_test);
INSTANTIATE_TEST_SUITE_P(isas, cpu_ops_test, testing::ValuesIn(float_attention()),
                         [](const auto& info) { return info.param.isa; });

void expect_close(const std::vector<float>& got, const std::vector<float>& want, float relative,
                  float absolute) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], absolute + relative * std::abs(want[i])) << "element " << i;
}

/// Rounding a query or a weight moves it by up to 2^-8 of itself, an output by a few times that of
/// the largest value; on average by far less.
void expect_close_in_bf16(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  double squares = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], 0.02f) << "element " << i;
    squares += std::pow(got[i] - want[i], 2);
  }
  EXPECT_LE(squares, static_cast<double>(got.size()) * 0.003 * 0.003);
}

/// Tolerances grow with the sum of magnitudes, which is what rounding is proportional to.
void check_linear(device& fast, device& reference, const linear_args& args, bool round,
                  std::vector<float> x, random_data& random) {
  if (round)
    round_to_bf16(x);
  const int64_t n = args.w.rows;
  auto run = args;
  run.x = x.data();
  run.x_stride = args.x_stride;
  run.out_stride = n + 3;
  auto got = random.floats(args.rows * run.out_stride);
  auto want = got;
  run.out = got.data();
  fast.linear(run);
  run.out = want.data();
  reference.linear(run);
  for (int64_t i = 0; i < args.rows; ++i)
    for (int64_t j = 0; j < run.out_stride; ++j) {
      const auto at = static_cast<size_t>(i * run.out_stride + j);
      if (j >= n) { // the gap between rows is not written
        ASSERT_EQ(got[at], want[at]);
        continue;
      }
      float magnitude = 1;
      for (int64_t c = 0; c < args.w.cols; ++c)
        magnitude += std::abs(x[static_cast<size_t>(i * args.x_stride + c)] *
                              cpu::load_element(args.w.data, args.w.type, j * args.w.cols + c));
      ASSERT_NEAR(got[at], want[at], 1e-6f * magnitude) << "row " << i << " column " << j;
    }
}

TEST_P(cpu_ops_test, linear_matches_the_reference_for_random_shapes) {
  random_data random{1};
  for (int round = 0; round < 120; ++round) {
    const auto type = random.one_of({dtype::f32, dtype::f16, dtype::bf16});
    const auto rows = random.one_of<int64_t>({1, 1, 2, 3, 5, 6, 7, 13, 49, random.between(1, 100)});
    const auto n = random.between(1, 150);
    const auto k = random.one_of<int64_t>({1, 15, 16, 17, 31, 32, 33, 64, random.between(1, 300)});
    SCOPED_TRACE(testing::Message()
                 << to_string(type) << " rows " << rows << " n " << n << " k " << k);
    const random_weight w{random, type, n, k};
    const random_weight bias{random, type, 1, n};
    linear_args args;
    args.w = w.get();
    if (random.between(0, 1))
      args.bias = bias.get();
    args.rows = rows;
    args.x_stride = k + random.between(0, 5);
    args.accumulate = random.between(0, 1) != 0;
    const bool rounds = GetParam().rounds_to_bf16() && type == dtype::bf16;
    check_linear(*fast, *reference, args, rounds, random.floats(rows * args.x_stride), random);
  }
}

TEST_P(cpu_ops_test, linear_matches_the_reference_when_k_is_cut_into_blocks) {
  random_data random{2};
  for (const int64_t k : {1536, 1537, 2049, 5000})
    for (const auto type : {dtype::f32, dtype::bf16}) {
      SCOPED_TRACE(testing::Message() << to_string(type) << " k " << k);
      const random_weight w{random, type, 70, k};
      linear_args args;
      args.w = w.get();
      args.rows = 51;
      args.x_stride = k;
      const bool rounds = GetParam().rounds_to_bf16() && type == dtype::bf16;
      check_linear(*fast, *reference, args, rounds, random.floats(args.rows * k), random);
    }
}

TEST_P(cpu_ops_test, bf16_products_differ_from_float_by_the_rounding_of_the_input_alone) {
  random_data random{3};
  const random_weight w{random, dtype::bf16, 64, 512};
  const auto x = random.floats(512);
  std::vector<float> got(64), want(64);
  linear_args args{x.data(), w.get(), {}, got.data(), 1, 512, 64};
  fast->linear(args);
  args.out = want.data();
  reference->linear(args);
  for (size_t j = 0; j < 64; ++j) {
    float magnitude = 0;
    for (size_t c = 0; c < 512; ++c)
      magnitude += std::abs(
          x[c] * cpu::load_element(w.get().data, dtype::bf16, static_cast<int64_t>(j * 512 + c)));
    ASSERT_NEAR(got[j], want[j], magnitude / 256);
  }
}

TEST_P(cpu_ops_test, embedding_matches_the_reference) {
  random_data random{4};
  for (const auto type : {dtype::f32, dtype::f16, dtype::bf16}) {
    const random_weight table{random, type, 50, 77};
    const std::vector<int32_t> ids{0, 49, 7, 7, 31};
    std::vector<float> got(5 * 77), want(5 * 77);
    fast->embedding({table.get(), ids.data(), got.data(), 5, 3.0f});
    reference->embedding({table.get(), ids.data(), want.data(), 5, 3.0f});
    EXPECT_EQ(got, want) << to_string(type);
  }
}

TEST_P(cpu_ops_test, rms_norm_matches_the_reference_in_place_and_by_groups) {
  random_data random{5};
  for (const int64_t cols : {1, 7, 16, 64, 128, 576, 2051})
    for (const int64_t groups : {1, 3}) {
      const int64_t rows = 9, stride = groups * cols + 5;
      const random_weight gain{random, random.one_of({dtype::f32, dtype::f16, dtype::bf16}), 1,
                               cols};
      auto got = random.floats(rows * stride, 3.0f);
      auto want = got;
      rms_norm_args args{got.data(), got.data(), gain.get(), rows, groups, cols, stride, stride};
      args.gain_offset = random.one_of({0.0f, 1.0f});
      fast->rms_norm(args);
      args.x = args.out = want.data();
      reference->rms_norm(args);
      expect_close(got, want, 2e-6f, 1e-7f);
    }
}

TEST_P(cpu_ops_test, rope_matches_the_reference_and_leaves_the_rest_of_a_head_alone) {
  random_data random{6};
  for (const int64_t rotary : {2, 32, 50, 64}) {
    const int64_t rows = 33, heads = 7, dim = 64, stride = heads * dim + 3;
    const auto cos = random.floats(rows * rotary / 2), sin = random.floats(rows * rotary / 2);
    auto got = random.floats(rows * stride);
    auto want = got;
    rope_args args{got.data(), cos.data(), sin.data(), rows, heads, dim, rotary, stride};
    fast->rope(args);
    args.x = want.data();
    reference->rope(args);
    expect_close(got, want, 1e-6f, 1e-6f);
    EXPECT_TRUE(rotary == 64 || got[63] == want[63]);
  }
}

TEST_P(cpu_ops_test, kv_write_stores_the_same_bits_as_the_reference) {
  random_data random{7};
  for (const auto type : {dtype::f32, dtype::bf16})
    for (const int64_t dim : {20, 64}) {
      const int64_t kv_heads = 3, block_size = 8, blocks = 20, rows = 100;
      const auto row = kv_heads * dim;
      auto k = random.floats(rows * row), v = random.floats(rows * row);
      k[5] = std::numeric_limits<float>::quiet_NaN();
      k[6] = std::numeric_limits<float>::infinity();
      k[7] = -0.0f;
      k[8] = 3.4e38f; // rounds to infinity in bf16
      k[9] = 1e-40f;
      std::vector<int64_t> slots(blocks * block_size);
      std::iota(slots.begin(), slots.end(), 0);
      random.shuffle(slots);
      const paged_cache got{type, blocks, kv_heads, block_size, dim};
      const paged_cache want{type, blocks, kv_heads, block_size, dim};
      for (auto& slot : slots)
        slot = got.slot(slot);
      fast->kv_write({k.data(), v.data(), got.view(), slots.data(), rows, row, row});
      reference->kv_write({k.data(), v.data(), want.view(), slots.data(), rows, row, row});
      EXPECT_EQ(got.bytes(), want.bytes());
    }
}

TEST_P(cpu_ops_test, an_int8_cache_holds_the_same_bits_as_the_references) {
  if (!fast->keeps_kv(dtype::i8))
    GTEST_SKIP() << "keeps no int8 cache";
  random_data random{13};
  for (const int64_t dim : {20, 64, 128}) {
    constexpr int64_t kv_heads = 3, block_size = 8, blocks = 5, rows = 40;
    const auto row = kv_heads * dim;
    auto k = random.floats(rows * row);
    const auto v = random.floats(rows * row, 100.0f);
    const auto head = [&](int64_t number) { return k.begin() + number * dim; };
    head(0)[3] = std::numeric_limits<float>::quiet_NaN();
    head(2)[dim - 1] = -std::numeric_limits<float>::infinity();
    std::fill_n(head(3), dim, 0.0f);
    std::fill_n(head(4), dim, 1e-38f); // too little for a scale
    head(5)[1] = -0.0f;
    std::vector<int64_t> slots(rows);
    std::iota(slots.begin(), slots.end(), 0);
    random.shuffle(slots);
    auto numbers = slots;
    const paged_cache got{dtype::i8, blocks, kv_heads, block_size, dim};
    const paged_cache want{dtype::i8, blocks, kv_heads, block_size, dim};
    for (auto& slot : numbers)
      slot = got.slot(slot);
    fast->kv_write({k.data(), v.data(), got.view(), numbers.data(), rows, row, row});
    reference->kv_write({k.data(), v.data(), want.view(), numbers.data(), rows, row, row});
    const auto& offsets = got.view();
    const auto scale_at = [](const paged_cache& cache, int64_t slot, int64_t h, int64_t offset) {
      return cpu::load_element(cache.at(slot, h, offset, 4), dtype::f32, 0);
    };
    int64_t broken = 0;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t h = 0; h < kv_heads; ++h) {
        const auto slot = slots[static_cast<size_t>(i)];
        for (const auto side : {offsets.k, offsets.v})
          EXPECT_EQ(0, std::memcmp(got.at(slot, h, side, dim), want.at(slot, h, side, dim),
                                   static_cast<size_t>(dim)));
        const float k_scale = scale_at(got, slot, h, offsets.k_scales),
                    k_wanted = scale_at(want, slot, h, offsets.k_scales);
        EXPECT_EQ(std::isnan(k_scale), std::isnan(k_wanted));
        EXPECT_TRUE(std::isnan(k_scale) || k_scale == k_wanted);
        broken += std::isnan(k_scale);
        const float scale = scale_at(got, slot, h, offsets.v_scales);
        EXPECT_EQ(scale, scale_at(want, slot, h, offsets.v_scales));
        // Every value is within half a scale of what was given.
        const auto* bytes = reinterpret_cast<const int8_t*>(got.at(slot, h, offsets.v, dim));
        for (int64_t d = 0; d < dim; ++d)
          ASSERT_NEAR(scale * static_cast<float>(bytes[d]),
                      v[static_cast<size_t>(i * row + h * dim + d)], 0.501f * scale);
      }
    EXPECT_EQ(broken, 2);
  }
}

TEST_P(cpu_ops_test, attention_matches_the_reference_for_random_batches) {
  random_data random{8};
  for (int round = 0; round < 40; ++round) {
    attention_shape shape;
    shape.head_dim = random.one_of<int64_t>({8, 20, 64, 80, 96, 128, 200});
    shape.kv_heads = random.between(1, 3);
    shape.group = random.between(1, 8);
    shape.block_size = random.one_of<int64_t>({1, 5, 16, 32, 100});
    shape.type = random.one_of({dtype::f32, dtype::bf16, dtype::i8});
    if (!fast->keeps_kv(shape.type))
      shape.type = dtype::bf16;
    shape.window = random.one_of<int64_t>({0, 0, 1, 7, 64, 100});
    const auto sequences = random.one_of<int64_t>({1, 2, 5, 64});
    for (int64_t s = 0; s < sequences; ++s) {
      const auto rows = random.one_of<int64_t>({0, 1, 1, 2, random.between(1, 20)});
      shape.rows.push_back(static_cast<int32_t>(rows));
      const auto past = sequences > 5 ? random.between(0, 60) : random.between(0, 400);
      shape.context.push_back(static_cast<int32_t>(rows + past));
    }
    SCOPED_TRACE(testing::Message() << "round " << round);
    attention_case test{random, shape};
    const auto got = test.run(*fast), want = test.run(*reference);
    if (GetParam().rounds_attention(shape.type))
      expect_close_in_bf16(got, want);
    else
      expect_close(got, want, 1e-5f, 5e-6f);
  }
}

TEST_P(cpu_ops_test, attention_matches_the_reference_over_thousands_of_positions) {
  random_data random{9};
  for (const auto type : {dtype::bf16, dtype::i8})
    for (const int64_t window : {0, 1000}) {
      if (!fast->keeps_kv(type))
        continue;
      attention_case test{random, {64, 1, 3, 16, window, type, {1, 3}, {3001, 4096}}};
      const auto got = test.run(*fast), want = test.run(*reference);
      if (GetParam().rounds_attention(type))
        expect_close_in_bf16(got, want);
      else
        expect_close(got, want, 1e-5f, 5e-6f);
    }
}

// A cache is written as sequences grow; a position may be written anew when what was guessed for it
// was wrong.
TEST_P(cpu_ops_test, a_cache_may_be_written_position_by_position) {
  random_data random{14};
  for (const auto type : {dtype::f32, dtype::bf16})
    for (const int64_t dim : {64, 80}) {
      attention_case test{random, {dim, 2, 3, 16, 0, type, {1, 4, 2}, {45, 100, 31}}};
      const auto whole = test.run(*fast);
      for (const int64_t at_once : {1, 2, 3, 7}) {
        test.write(*fast, at_once);
        std::vector<float> out(whole.size());
        fast->attention(test.args(out.data()));
        EXPECT_TRUE(same_bits(out.data(), whole.data(), static_cast<int64_t>(out.size())));
      }
    }
}

TEST_P(cpu_ops_test, gated_activations_match_the_reference_from_tail_to_tail) {
  random_data random{10};
  const int64_t rows = 3, cols = 4003;
  for (const auto act :
       {activation::silu, activation::gelu, activation::gelu_tanh, activation::relu}) {
    auto gate = random.floats(rows * cols, 2.0f);
    for (size_t i = 0; i < 4003; ++i) // from -20 to 20, and small numbers
      gate[i] = (static_cast<float>(i) - 2000.0f) / 100.0f;
    for (size_t i = 0; i < 1000; ++i)
      gate[4003 + i] *= 1e-4f;
    const std::vector<float> ones(static_cast<size_t>(rows * cols), 1.0f);
    auto want = gate;
    auto got = gate;
    gated_activation_args args{gate.data(), ones.data(), got.data(), rows, cols,
                               cols,        cols,        cols,       act};
    args.gate = got.data(); // in place
    fast->gated_activation(args);
    args.gate = args.out = want.data();
    reference->gated_activation(args);
    for (size_t i = 0; i < got.size(); ++i) {
      const float slack = gate[i] > -4 ? 2e-6f : 2e-5f;
      ASSERT_NEAR(got[i], want[i], std::abs(want[i]) * slack + 1e-10f)
          << "activation " << static_cast<int>(act) << " of " << gate[i];
    }
  }
}

TEST_P(cpu_ops_test, gather_rows_copies_the_named_rows) {
  random_data random{11};
  const auto x = random.floats(10 * 40);
  const std::vector<int32_t> index{9, 0, 3, 3};
  std::vector<float> got(4 * 37), want(4 * 37);
  fast->gather_rows({x.data(), index.data(), got.data(), 4, 37, 40});
  reference->gather_rows({x.data(), index.data(), want.data(), 4, 37, 40});
  EXPECT_EQ(got, want);
  EXPECT_EQ(got[0], x[9 * 40]);
}

TEST_P(cpu_ops_test, a_nan_in_the_input_reaches_the_output) {
  // The engine finds damaged weights by the NaN they make; no op may swallow it.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> gate(20, nan), up(20, 1.0f);
  for (const auto act :
       {activation::silu, activation::gelu, activation::gelu_tanh, activation::relu}) {
    std::vector<float> out(20);
    fast->gated_activation({gate.data(), up.data(), out.data(), 1, 20, 20, 20, 20, act});
    EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[19])) << static_cast<int>(act);
  }
}

TEST_P(cpu_ops_test, calls_without_rows_do_nothing) {
  random_data random{12};
  const random_weight w{random, dtype::bf16, 8, 8};
  float untouched = 7;
  fast->embedding({w.get(), nullptr, &untouched, 0});
  fast->rms_norm({nullptr, &untouched, w.get(), 0, 1, 8, 8, 8});
  fast->linear({nullptr, w.get(), {}, &untouched, 0, 8, 8});
  fast->rope({&untouched, nullptr, nullptr, 0, 1, 8, 8, 8});
  kv_write_args write;
  write.cache = {nullptr, 0, dtype::bf16, 1, 16, 8};
  fast->kv_write(write);
  attention_args attend;
  const int32_t start[] = {0};
  attend.cache = write.cache;
  attend.row_start = start;
  attend.heads = 1;
  fast->attention(attend);
  fast->gated_activation({nullptr, nullptr, &untouched, 0, 8, 8, 8, 8});
  fast->gather_rows({nullptr, nullptr, &untouched, 0, 8, 8});
  EXPECT_EQ(untouched, 7);
}

} // namespace
} // namespace troupe::gpu
