#include <cublasLt.h>
#include <gtest/gtest.h>

#include "gpu/cuda_probe.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace {

/// On the emulated device: what is queued, and what is made of its times.
class cuda_probe_test : public testing::Test {
protected:
  void TearDown() override {
    cuda_emulation::set_device_count(1);
    cuda_emulation::set_capability(8, 0);
    cublaslt_emulation::reset();
    cuda_emulation::fail_next(cudaSuccess);
  }
  static cuda_probe_sizes small() {
    return {.memory_bytes = 1 << 16,
            .host_bytes = 1 << 12,
            .product_side = 16,
            .product_steps = 2,
            .reps = 2};
  }
};

TEST_F(cuda_probe_test, every_ceiling_has_a_rate) {
  const auto rates = measure_cuda(0, small());
  ASSERT_TRUE(rates) << describe(rates.error());
  EXPECT_EQ(rates->memory.size(), 2u);
  EXPECT_EQ(rates->compute.size(), 2u);
  EXPECT_EQ(rates->link.size(), 2u);
  EXPECT_EQ(rates->missing, "");
  for (const auto* kind : {&rates->memory, &rates->compute, &rates->link})
    for (const auto& one : *kind) {
      EXPECT_GT(one.per_second, 0) << one.name;
      EXPECT_FALSE(one.how.empty());
    }
}

TEST_F(cuda_probe_test, another_device_is_read_where_there_is_one) {
  cuda_emulation::set_device_count(2);
  for (const int ordinal : {0, 1}) {
    const auto before = cuda_emulation::peer_copies().direct_bytes;
    const auto rates = measure_cuda(ordinal, small());
    ASSERT_TRUE(rates) << describe(rates.error());
    ASSERT_EQ(rates->link.size(), 3u);
    EXPECT_EQ(rates->link[2].name, "memory of cuda:" + std::to_string(1 - ordinal) + " to device");
    EXPECT_GT(rates->link[2].per_second, 0);
    EXPECT_EQ(cuda_emulation::peer_copies().direct_bytes - before, 3 * small().host_bytes);
  }
}

TEST_F(cuda_probe_test, products_of_8_bit_floats_have_a_rate_where_they_are_multiplied) {
  cuda_emulation::set_capability(9, 0);
  auto sizes = small();
  sizes.product_side = 128;
  cublaslt_emulation::reset();
  const auto rates = measure_cuda(0, sizes);
  ASSERT_TRUE(rates) << describe(rates.error());
  ASSERT_EQ(rates->compute.size(), 3u);
  EXPECT_EQ(rates->compute[2].name, "f8 products");
  EXPECT_EQ(rates->compute[2].how, "cuBLASLt 13.1.2, square of 128");
  EXPECT_EQ(cublaslt_emulation::counted().f8_products, 3u);
  cublaslt_emulation::reset({.no_f8 = true});
  const auto without = measure_cuda(0, sizes);
  ASSERT_TRUE(without);
  EXPECT_EQ(without->compute.size(), 2u);
  EXPECT_NE(without->missing.find("in f8_e4m3"), std::string::npos) << without->missing;
}

TEST_F(cuda_probe_test, a_device_that_is_not_there_or_fails_is_an_error) {
  EXPECT_EQ(measure_cuda(1, small()).error(), errc::unavailable);
  cuda_emulation::fail_next(cudaErrorIllegalAddress, true);
  EXPECT_EQ(measure_cuda(0, small()).error(), errc::device_failed);
  cuda_emulation::fail_next(cudaSuccess);
  cuda_emulation::set_device_count(0);
  EXPECT_EQ(measure_cuda(0, small()).error(), errc::unavailable);
}

} // namespace
} // namespace troupe::gpu
