#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "gpu/device.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace {

/// What only an emulated device can be made to do: fail.
class cuda_device_test : public testing::Test {
protected:
  void TearDown() override {
    cuda_emulation::set_device_count(1);
    cuda_emulation::fail_next(cudaSuccess);
  }
  static std::unique_ptr<device> open(const device_options& options = {}) {
    auto made = make_cuda_device(0, options);
    EXPECT_TRUE(made) << describe(made.error());
    return std::move(*made);
  }
};

TEST_F(cuda_device_test, a_machine_without_a_device_says_what_to_do) {
  cuda_emulation::set_device_count(0);
  const auto made = make_cuda_device(0);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error(), errc::unavailable);
  EXPECT_NE(describe(made.error()).find("use the device cpu"), std::string::npos);
  EXPECT_EQ(cuda_devices().error(), errc::unavailable);
}

TEST_F(cuda_device_test, a_device_that_is_not_there_is_refused_by_its_number) {
  for (const int ordinal : {-1, 1, 7}) {
    const auto made = make_cuda_device(ordinal);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error(), errc::unavailable);
    EXPECT_NE(describe(made.error()).find("cuda:" + std::to_string(ordinal)), std::string::npos);
  }
}

TEST_F(cuda_device_test, memory_over_the_limit_is_refused_and_freed_memory_comes_back) {
  device_options options;
  options.memory_bytes = 1000;
  const auto dev = open(options);
  EXPECT_EQ(dev->memory_bytes(), 1000u);
  {
    const auto first = dev->allocate(600);
    ASSERT_TRUE(first);
    const auto second = dev->allocate(401);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error(), errc::out_of_memory);
    EXPECT_NE(describe(second.error()).find("600 of 1000 bytes are in use"), std::string::npos);
  }
  EXPECT_TRUE(dev->allocate(1000));
}

TEST_F(cuda_device_test, a_failed_allocation_leaves_the_device_usable) {
  const auto dev = open();
  cuda_emulation::fail_next(cudaErrorMemoryAllocation);
  const auto got = dev->allocate(8);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error(), errc::out_of_memory);
  EXPECT_FALSE(dev->synchronize());
  EXPECT_TRUE(dev->allocate(8));
}

TEST_F(cuda_device_test, the_first_failure_sticks_and_names_the_op) {
  const auto dev = open();
  const auto memory = dev->allocate(64);
  ASSERT_TRUE(memory);
  cuda_emulation::fail_next(cudaErrorIllegalAddress, true);
  gather_rows_args args;
  args.rows = args.cols = 1;
  dev->gather_rows(args);
  dev->embedding({});
  for (int i = 0; i < 2; ++i) {
    const auto why = dev->synchronize();
    EXPECT_EQ(why, errc::device_failed);
    EXPECT_NE(describe(why).find("gather_rows on cuda:0 (emulated)"), std::string::npos)
        << describe(why);
  }
  EXPECT_EQ(dev->allocate(8).error(), errc::device_failed);
}

TEST_F(cuda_device_test, small_copies_may_change_their_source_at_once) {
  const auto dev = open();
  const auto memory = dev->allocate(8);
  ASSERT_TRUE(memory);
  char text[8] = "before";
  for (int i = 0; i < 200000; ++i) // more than the ring holds
    dev->copy_to_device(memory->data(), text, sizeof text);
  char back[8] = {};
  dev->copy_to_host(back, memory->data(), sizeof back);
  EXPECT_FALSE(dev->synchronize());
  EXPECT_STREQ(back, "before");
}

} // namespace
} // namespace troupe::gpu
