#include <cublasLt.h>
#include <gtest/gtest.h>

#include "gpu/choose.hpp"
#include "gpu/cuda/wide_products.hpp"
#include "gpu/device.hpp"
#include "tests/gpu/linear_cases.hpp"

namespace troupe::gpu {
namespace {

using namespace test;
namespace emulated = cublaslt_emulation;

constexpr uint64_t mib = 1 << 20;

/// Memory that ops take while they run, on an emulated device with little of it.
class scratch_test : public testing::Test {
protected:
  void SetUp() override { emulated::reset(); }
  void TearDown() override {
    emulated::reset();
    cuda_emulation::set_capability(8, 0);
  }

  std::unique_ptr<device> open(uint64_t memory_bytes, products wide = products::fastest) {
    device_options options;
    options.wide = wide;
    options.memory_bytes = memory_bytes;
    options.warn = [this](const std::string& what) { warnings.push_back(what); };
    return std::move(*make_cuda_device(0, options));
  }

  /// A product of many rows, and whether the library got it.
  std::vector<float> product(device& on, bool by_library) {
    std::vector<float> out(static_cast<size_t>(rows * n));
    const auto before = emulated::counted().products;
    on.linear({x.data(), w.get(), {}, out.data(), rows, k, n});
    EXPECT_EQ(emulated::counted().products - before, by_library ? 1u : 0u);
    EXPECT_FALSE(on.synchronize());
    return out;
  }

  random_data random{91};
  const int64_t rows = 140, n = 24, k = 128;
  const test_weight w{random, dtype::bf16, n, k};
  const std::vector<float> x = random.floats(rows * k);
  std::vector<std::string> warnings;
};

TEST_F(scratch_test, without_memory_for_the_library_the_own_kernels_take_a_product) {
  const auto dev = open(mib);
  const auto want = product(*open(0, products::invariant), false);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(product(*dev, false), want);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0], "cuda:0 (emulated): there are no 33590272 bytes of memory left for "
                         "products of cuBLASLt; until there are, the kernels of `invariant` take "
                         "them");
}

TEST_F(scratch_test, memory_that_is_freed_serves_the_library_again) {
  const auto dev = open(40 * mib);
  auto held = dev->allocate(20 * mib);
  ASSERT_TRUE(held);
  product(*dev, false);
  product(*dev, false);
  *held = {};
  product(*dev, true);
  EXPECT_EQ(warnings.size(), 1u);
}

TEST_F(scratch_test, what_was_taken_for_ops_is_given_up_for_a_model) {
  const auto dev = open(40 * mib);
  product(*dev, true);
  const auto held = dev->allocate(39 * mib);
  EXPECT_TRUE(held);
  product(*dev, false);
}

TEST_F(scratch_test, ops_that_cannot_do_without_fail_the_device) {
  const auto dev = open(100);
  std::vector<float> out(static_cast<size_t>(rows * n));
  dev->linear({x.data(), w.get(), {}, out.data(), rows, k, n});
  const auto why = describe(dev->synchronize());
  EXPECT_NE(why.find("allocating 35840 bytes on cuda:0"), std::string::npos) << why;
}

TEST_F(scratch_test, attention_that_is_not_split_has_the_same_bits) {
  attention_shape shape;
  shape.rows = {1, 2};
  shape.context = {900, 700};
  const auto plenty = open(0), little = open(1000);
  attention_case one{random, shape};
  EXPECT_EQ(one.run(*plenty), one.run(*little));
  EXPECT_FALSE(little->synchronize());
}

// A device that has no more memory than it said ops would take, and was lent that.
TEST_F(scratch_test, ops_take_no_more_than_they_say) {
  cuda_emulation::set_capability(9, 0);
  const auto any = open(0);
  linear_args largest;
  largest.rows = 300;
  largest.w.rows = largest.out_stride = 48;
  largest.w.cols = largest.x_stride = 384;
  attention_args attention;
  attention.rows = attention.sequences = 3;
  attention.heads = attention.cache.kv_heads = 2;
  attention.cache.head_dim = 64;
  attention.cache.block_size = 16;
  attention.table_stride = 1000 / 16 + 1;
  EXPECT_GT(any->scratch_bytes(attention), 0u);
  const auto bytes = std::max(any->scratch_bytes(largest), any->scratch_bytes(attention));
  const auto dev = open(bytes), usual = open(0, products::invariant);
  const auto lent = dev->allocate(bytes);
  ASSERT_TRUE(lent);
  dev->lend_scratch(lent->data(), bytes);
  for (const auto type : {dtype::bf16, dtype::f16, dtype::q8_0, dtype::q6_k, dtype::f8_b128})
    for (const int64_t count : {1, 40, 128, 255, 256, 300}) {
      const auto cols = whole_blocks(type, 384);
      const test_weight other{random, type, 48, cols};
      const auto from = random.floats(count * cols);
      std::vector<float> out(static_cast<size_t>(count * 48));
      dev->linear({from.data(), other.get(), {}, out.data(), count, cols, 48});
    }
  EXPECT_GT(emulated::counted().f8_products, 0u);
  EXPECT_GT(emulated::counted().products, emulated::counted().f8_products);
  for (const int32_t context : {300, 1000}) {
    attention_shape shape;
    shape.rows = {1, 1, 1};
    shape.context = {context, 5, 600};
    attention_case one{random, shape};
    EXPECT_EQ(one.run(*dev), one.run(*usual));
  }
  EXPECT_FALSE(dev->synchronize());
  EXPECT_TRUE(warnings.empty());
}

TEST_F(scratch_test, widened_weights_take_more_than_those_of_8_bits) {
  std::string why;
  cuda::wide_limits limits;
  limits.f8 = true;
  for (int i = 0; i < 2000; ++i) {
    limits.widened_bytes_max = static_cast<uint64_t>(random.between(1, 1 << 20));
    const cuda::wide_products wide{cuda::cublaslt::open(why), nullptr, limits};
    linear_args args;
    args.rows = random.between(256, 600);
    args.w.rows = args.out_stride = random.between(1, 300) * 4;
    args.w.cols = random.between(1, 30) * 128;
    args.w.type = dtype::f8_b128;
    const auto f8 = wide.scratch_bytes(args);
    args.w.type = dtype::q8_0;
    ASSERT_LE(f8, wide.scratch_bytes(args))
        << args.rows << " " << args.w.rows << " " << args.w.cols << " " << limits.widened_bytes_max;
  }
}

} // namespace
} // namespace troupe::gpu
