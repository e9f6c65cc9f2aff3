#include "gpu/cuda/cublaslt.hpp"

#include <cublasLt.h>
#include <gtest/gtest.h>

#include <list>
#include <vector>

#include "base/half.hpp"

namespace troupe::gpu::cuda {
namespace {

namespace emulated = cublaslt_emulation;

/// How the library is asked, on one that is emulated.
class cublaslt_test : public testing::Test {
protected:
  void SetUp() override { emulated::reset(); }
  void TearDown() override { emulated::reset(); }

  /// All ones; how many outputs are not k.
  int wrong(cublaslt& library, int64_t rows, int64_t n, int64_t k, dtype type = dtype::bf16) {
    const auto one = type == dtype::bf16 ? float_to_bf16(1) : float_to_f16(1);
    const std::vector<uint16_t> x(static_cast<size_t>(rows * k), one), w(x.size() + 65536, one);
    std::vector<float> out(static_cast<size_t>(rows * n), -1);
    lt_product product;
    product.x = x.data();
    product.w = w.data();
    product.out = out.data();
    product.rows = rows;
    product.n = n;
    product.k = product.x_stride = k;
    product.out_stride = n;
    product.type = type;
    why.clear();
    refused = !library.multiply(product, workspace.data(), workspace.size(), nullptr, why);
    int count = 0;
    for (const float value : out)
      count += value != static_cast<float>(k);
    return count;
  }

  std::vector<unsigned char> workspace = std::vector<unsigned char>(4096);
  std::string why;
  bool refused = false;
};

TEST_F(cublaslt_test, numbers_of_rows_fall_into_few_buckets_that_hold_them) {
  EXPECT_EQ(lt_bucket(1), 64);
  EXPECT_EQ(lt_bucket(128), 128);
  EXPECT_EQ(lt_bucket(129), 192);
  EXPECT_EQ(lt_bucket(512), 512);
  EXPECT_EQ(lt_bucket(513), 640);
  EXPECT_EQ(lt_bucket(8192), 8192);
  for (int64_t rows = 1; rows < 20000; ++rows) {
    ASSERT_GE(lt_bucket(rows), rows);
    ASSERT_LE(lt_bucket(rows), rows + std::max<int64_t>(63, rows / 4));
    ASSERT_EQ(lt_bucket(lt_bucket(rows)), lt_bucket(rows));
  }
}

TEST_F(cublaslt_test, a_kernel_is_looked_for_once_for_each_shape_and_bucket) {
  const auto library = cublaslt::open(why);
  ASSERT_TRUE(library) << why;
  for (const int64_t rows : {130, 150, 192, 130})
    EXPECT_EQ(wrong(*library, rows, 24, 16), 0) << rows << ": " << why;
  EXPECT_EQ(emulated::counted().heuristics, 1u);
  EXPECT_EQ(wrong(*library, 193, 24, 16), 0);
  EXPECT_EQ(wrong(*library, 130, 32, 16), 0);
  EXPECT_EQ(wrong(*library, 130, 24, 8), 0);
  EXPECT_EQ(wrong(*library, 130, 24, 16, dtype::f16), 0);
  EXPECT_EQ(emulated::counted().heuristics, 5u);
  EXPECT_EQ(emulated::counted().products, 8u);
}

TEST_F(cublaslt_test, rows_that_a_buckets_kernel_does_not_take_get_one_of_their_own) {
  emulated::reset({.least_share = 0.9});
  const auto library = cublaslt::open(why);
  ASSERT_TRUE(library);
  for (const int64_t rows : {192, 130, 190, 130}) // 130 are too few for what takes 192
    EXPECT_EQ(wrong(*library, rows, 24, 16), 0) << rows << ": " << why;
  EXPECT_EQ(emulated::counted().heuristics, 2u);
}

/// Products of 8-bit floats, all ones, on a device that multiplies them.
class scaled_cublaslt_test : public cublaslt_test {
protected:
  void SetUp() override {
    cublaslt_test::SetUp();
    cuda_emulation::set_capability(9, 0);
  }
  void TearDown() override {
    cuda_emulation::set_capability(8, 0);
    cublaslt_test::TearDown();
  }

  /// The product of 4 x n with one scale for each 128 of 256 columns: those of row r of x are r + 1
  /// and 10 times that, of row c of w 1 and 1 / (c + 1). `all` is a factor of the former; `shift`
  /// moves where the latter are.
  std::vector<float> product(cublaslt& library, int64_t n, float all = 1, int64_t shift = 0) {
    constexpr int64_t rows = 4, k = 256;
    const std::vector<uint8_t> ones(static_cast<size_t>(std::max(rows, n) * k), 0x38);
    auto& x_scales = held.emplace_back(); // every call has memory of its own
    auto& w_scales = held.emplace_back(static_cast<size_t>(shift));
    std::vector<float> out(rows * 64, -1);
    for (const float of_part : {all, 10 * all})
      for (int row = 1; row <= rows; ++row)
        x_scales.push_back(of_part * static_cast<float>(row));
    for (int64_t i = 0; i < 2 * n; ++i)
      w_scales.push_back(i < n ? 1.0f : 1.0f / static_cast<float>(i - n + 1));
    lt_product of;
    of.x = of.w = ones.data();
    of.out = out.data();
    of.rows = rows;
    of.n = n;
    of.k = of.x_stride = k;
    of.out_stride = 64;
    of.type = dtype::f8_e4m3;
    of.x_scales = x_scales.data();
    of.w_scales = w_scales.data() + shift;
    refused = !library.takes(of, workspace.size(), why) ||
              !library.multiply(of, workspace.data(), workspace.size(), nullptr, why);
    return out;
  }

private:
  std::list<std::vector<float>> held;
};

TEST_F(scaled_cublaslt_test, scales_are_those_of_the_call_and_of_their_rows) {
  const auto library = cublaslt::open(why);
  EXPECT_TRUE(library->multiplies_f8(9, 0));
  EXPECT_FALSE(library->multiplies_f8(8, 9));
  EXPECT_FALSE(library->multiplies_f8(10, 0));
  for (const float all : {1.0f, 2.0f, 3.0f}) {
    const auto out = product(*library, 12, all);
    ASSERT_FALSE(refused) << why;
    for (int64_t row = 0; row < 4; ++row)
      for (int64_t column = 0; column < 12; ++column)
        EXPECT_FLOAT_EQ(out[static_cast<size_t>(row * 64 + column)],
                        all * 128.0f * static_cast<float>(row + 1) *
                            (1 + 10.0f / static_cast<float>(column + 1)));
  }
  EXPECT_EQ(emulated::counted().heuristics, 1u);
  EXPECT_EQ(emulated::counted().f8_products, 3u);
}

TEST_F(scaled_cublaslt_test, what_the_library_does_not_allow_is_refused) {
  const auto library = cublaslt::open(why);
  product(*library, 10); // not in fours
  EXPECT_TRUE(refused);
  product(*library, 12, 1, 1); // scales that are not aligned
  EXPECT_TRUE(refused);
  cuda_emulation::set_capability(8, 9);
  product(*library, 16);
  EXPECT_TRUE(refused);
  EXPECT_EQ(why, "cuBLASLt does not multiply [4, 256] with [16, 256] in f8_e4m3: status 15");
  EXPECT_EQ(emulated::counted().products, 0u);
  emulated::reset({.version = 120805});
  EXPECT_FALSE(cublaslt::open(why)->multiplies_f8(9, 0));
}

TEST_F(cublaslt_test, what_is_remembered_is_bounded_and_goes_with_the_library) {
  const auto before = emulated::counted().alive;
  {
    const auto library = cublaslt::open(why);
    for (int64_t n = 1; n <= 2000; ++n)
      ASSERT_EQ(wrong(*library, 2, n, 8), 0) << why;
    EXPECT_EQ(emulated::counted().heuristics, 2000u);
    EXPECT_LE(emulated::counted().alive - before, 1u + 4 * 512); // the handle; four for each shape
  }
  EXPECT_EQ(emulated::counted().alive, before);
}

TEST_F(cublaslt_test, a_shape_that_is_refused_is_named_and_not_looked_for_again) {
  emulated::reset({.columns_max = 16});
  const auto library = cublaslt::open(why);
  for (int i = 0; i < 3; ++i) {
    wrong(*library, 128, 17, 8);
    EXPECT_TRUE(refused);
    EXPECT_EQ(why, "cuBLASLt does not multiply [128, 8] with [17, 8] in bf16: status 15");
  }
  EXPECT_EQ(emulated::counted().heuristics, 1u);
  EXPECT_EQ(wrong(*library, 128, 16, 8), 0);
  EXPECT_FALSE(refused);
}

TEST_F(cublaslt_test, a_library_that_is_missing_or_does_not_start_says_so) {
  emulated::reset({.missing = true});
  EXPECT_FALSE(cublaslt::open(why));
  EXPECT_EQ(why, "there is no emulated cuBLASLt");
  emulated::reset({.does_not_start = true});
  EXPECT_FALSE(cublaslt::open(why));
  EXPECT_EQ(why, "cuBLASLt does not start: status 1");
}

TEST_F(cublaslt_test, the_version_is_read_as_people_write_it) {
  EXPECT_EQ(cublaslt::open(why)->version(), "13.1.2");
}

} // namespace
} // namespace troupe::gpu::cuda
