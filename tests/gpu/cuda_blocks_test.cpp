#include <gtest/gtest.h>

#include <cmath>

#include "tests/gpu/linear_cases.hpp"

namespace troupe::gpu {
namespace {

using namespace test;

/// Products with bf16 weights and with weights in blocks, on tensor cores and in float.
class cuda_blocks_test : public testing::TestWithParam<backend> {
protected:
  std::unique_ptr<device> fast = GetParam().make();
  std::unique_ptr<device> reference = make_reference_device();
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(cuda_blocks_test);
INSTANTIATE_TEST_SUITE_P(modes, cuda_blocks_test, testing::ValuesIn(all_modes()),
                         [](const auto& info) { return info.param.name(); });

constexpr dtype formats[] = {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0,   dtype::q5_1,
                             dtype::q4_k, dtype::q5_k, dtype::q6_k, dtype::f8_b128};

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

TEST_P(cuda_blocks_test, blocks_of_a_file_are_made_into_smaller_ones) {
  random_data random{54};
  for (const auto type : formats) {
    const test_weight w{random, type, 33, 512};
    EXPECT_EQ(quantized(*fast, w.get(), dtype::q4_0), quantized(*reference, w.get(), dtype::q4_0))
        << to_string(type);
  }
}

TEST_P(cuda_blocks_test, rows_are_looked_up_as_the_reference_reads_them) {
  random_data random{55};
  for (const auto type : formats) {
    const auto cols = whole_blocks(type, 800);
    const test_weight table{random, type, 67, cols};
    const std::vector<int32_t> ids{66, 0, 15, 15, 64};
    std::vector<float> got(ids.size() * static_cast<size_t>(cols)), want(got.size());
    fast->embedding({table.get(), ids.data(), got.data(), 5, 0.5f});
    reference->embedding({table.get(), ids.data(), want.data(), 5, 0.5f});
    EXPECT_EQ(got, want) << to_string(type);
  }
}

TEST_P(cuda_blocks_test, every_type_is_taken) {
  for (const auto type : formats)
    EXPECT_TRUE(fast->takes(type)) << to_string(type);
  for (const auto type : {dtype::i8, dtype::f8_e4m3, dtype::f64})
    EXPECT_FALSE(fast->takes(type)) << to_string(type);
}

TEST_P(cuda_blocks_test, linear_matches_the_reference) {
  random_data random{52};
  constexpr dtype types[] = {dtype::bf16, dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0,
                             dtype::q5_1, dtype::q4_k, dtype::q5_k, dtype::q6_k, dtype::f8_b128};
  for (int round = 0; round < 150; ++round) {
    const auto type = types[round % 10];
    const int64_t rows = random.one_of<int64_t>({1, 2, 8, 9, 16, 17, 32, 33, 97, 130});
    const int64_t n = random.between(1, 150);
    const int64_t k = whole_blocks(type, random.one_of<int64_t>({1, random.between(1, 1300)}));
    const random_product one{random, type, rows, n, k, round};
    // In blocks, a weight is rounded to bf16 once more: by 2^-8 at most, less in a sum.
    const bool rounds = is_blocks(type) && GetParam().mode == precision::automatic;
    expect_product_matches(*fast, *reference, one.args(), random, rounds ? 1.0f / 512 : 2e-6f);
  }
}

TEST_P(cuda_blocks_test, rows_alone_and_in_any_batch_have_the_same_bits) {
  random_data random{53};
  for (const auto type : {dtype::bf16, dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0,
                          dtype::q5_1, dtype::q4_k, dtype::q5_k, dtype::q6_k, dtype::f8_b128}) {
    const int64_t rows = 131, n = 37, k = whole_blocks(type, 1312);
    const test_weight w{random, type, n, k};
    const auto x = random.floats(rows * k);
    std::vector<float> alone(static_cast<size_t>(rows * n));
    for (int64_t i = 0; i < rows; ++i)
      fast->linear({x.data() + i * k, w.get(), {}, alone.data() + i * n, 1, k, n});
    for (const int64_t count : {2, 9, 17, 32, 33, 131}) {
      std::vector<float> batch(static_cast<size_t>(count * n));
      fast->linear({x.data() + (rows - count) * k, w.get(), {}, batch.data(), count, k, n});
      ASSERT_TRUE(same_bits(batch.data(), alone.data() + (rows - count) * n, count * n))
          << to_string(type) << " rows " << count;
    }
  }
}

TEST_P(cuda_blocks_test, scales_that_are_no_number_reach_the_output) {
  random_data random{56};
  for (const auto type : formats) {
    const auto k = whole_blocks(type, 256);
    auto bytes = random_blocks(random, type, 3, k);
    const size_t unit = type == dtype::q6_k ? 208 : 0;
    cpu::store_element(bytes.data() + bytes_of(type, static_cast<uint64_t>(k)) + unit,
                       type == dtype::f8_b128 ? dtype::f32 : dtype::f16, 0,
                       std::nanf("")); // of the second row's first block
    for (const int64_t rows : {1, 40}) {
      const auto x = random.floats(rows * k);
      std::vector<float> out(static_cast<size_t>(rows * 3));
      fast->linear({x.data(), {bytes.data(), type, 3, k}, {}, out.data(), rows, k, 3});
      for (size_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(std::isnan(out[i]), i % 3 == 1) << to_string(type) << " " << i;
    }
  }
}

} // namespace
} // namespace troupe::gpu
