#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

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

TEST_F(cuda_device_test, large_copies_arrive_whole_from_every_queue) {
  const auto dev = open();
  const auto other = dev->second_queue();
  ASSERT_TRUE(other);
  // Odd sizes around those of the slots, and offsets that no page begins at.
  for (const size_t size : {(size_t{1} << 20) + 1, (size_t{4} << 20) + 3, size_t{37'000'001}}) {
    std::vector<uint32_t> words(size / 4 + 2);
    for (size_t i = 0; i < words.size(); ++i)
      words[i] = static_cast<uint32_t>(i * 2654435761u);
    const auto* from = reinterpret_cast<const char*>(words.data()) + 3;
    for (auto* queue : {dev.get(), other.get()}) {
      const auto memory = dev->allocate(size);
      ASSERT_TRUE(memory);
      queue->copy_to_device(memory->data(), from, size);
      std::vector<char> back(size);
      queue->copy_to_host(back.data(), memory->data(), size);
      EXPECT_FALSE(queue->synchronize());
      EXPECT_EQ(std::memcmp(back.data(), from, size), 0) << size;
    }
  }
}

TEST_F(cuda_device_test, the_source_of_a_large_copy_may_change_at_once) {
  const auto dev = open();
  std::vector<char> source(9'000'000, 'a'), back(source.size());
  const auto memory = dev->allocate(source.size());
  ASSERT_TRUE(memory);
  dev->copy_to_device(memory->data(), source.data(), source.size());
  std::fill(source.begin(), source.end(), 'b');
  dev->copy_to_host(back.data(), memory->data(), back.size());
  EXPECT_FALSE(dev->synchronize());
  EXPECT_EQ(back, std::vector<char>(back.size(), 'a'));
}

TEST_F(cuda_device_test, a_machine_that_pins_no_memory_still_copies) {
  const auto dev = open();
  const std::vector<char> source(3'000'000, 'a');
  std::vector<char> back(source.size());
  const auto memory = dev->allocate(source.size());
  ASSERT_TRUE(memory);
  cuda_emulation::fail_next(cudaErrorMemoryAllocation); // the first lane's
  dev->copy_to_device(memory->data(), source.data(), source.size());
  dev->copy_to_host(back.data(), memory->data(), back.size());
  EXPECT_FALSE(dev->synchronize());
  EXPECT_EQ(back, source);
}

TEST_F(cuda_device_test, a_large_copy_that_fails_is_reported) {
  const auto dev = open();
  const std::vector<char> source(9'000'000, 'a');
  const auto memory = dev->allocate(source.size());
  ASSERT_TRUE(memory);
  dev->copy_to_device(memory->data(), source.data(), source.size());
  cuda_emulation::fail_next(cudaErrorIllegalAddress, true);
  dev->copy_to_device(memory->data(), source.data(), source.size());
  const auto why = dev->synchronize();
  EXPECT_EQ(why, errc::device_failed);
  EXPECT_NE(describe(why).find("copying to the device"), std::string::npos) << describe(why);
}

TEST_F(cuda_device_test, small_copies_may_change_their_source_at_once) {
  const auto dev = open();
  const auto other = dev->second_queue();
  const auto memory = dev->allocate(8);
  ASSERT_TRUE(memory && other);
  for (auto* queue : {dev.get(), other.get()}) {
    char text[8] = "before";
    for (int i = 0; i < 200000; ++i) // more than the ring holds
      queue->copy_to_device(memory->data(), text, sizeof text);
    std::memset(text, 'x', sizeof text);
    char back[8] = {};
    queue->copy_to_host(back, memory->data(), sizeof back);
    EXPECT_FALSE(queue->synchronize());
    EXPECT_STREQ(back, "before");
  }
}

} // namespace
} // namespace troupe::gpu
