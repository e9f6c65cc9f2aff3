#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "gpu/device.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace {

/// The emulation itself: a source that changes or goes too early must show.
class delayed_copies_test : public testing::Test {
protected:
  delayed_copies_test() {
    for (auto& one : streams_)
      EXPECT_EQ(cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaEventCreate(&event_), cudaSuccess);
    EXPECT_EQ(cudaHostRegister(source_, sizeof source_, cudaHostRegisterPortable), cudaSuccess);
  }
  ~delayed_copies_test() override {
    for (auto* one : streams_)
      cudaStreamDestroy(one);
    cudaEventDestroy(event_);
    EXPECT_EQ(cudaHostUnregister(source_), cudaSuccess);
  }
  void copy(int stream, int* to, const int* from) {
    EXPECT_EQ(cudaMemcpyAsync(to, from, sizeof *to, cudaMemcpyHostToDevice, streams_[stream]),
              cudaSuccess);
  }

  int source_[64] = {1};
  cudaStream_t streams_[2] = {};
  cudaEvent_t event_ = nullptr;
};

TEST_F(delayed_copies_test, pinned_memory_is_read_when_it_is_waited_for) {
  int there = 0, pageable = 5, other = 0;
  copy(0, &there, source_);
  copy(1, &other, &pageable);
  EXPECT_EQ(there, 0);
  EXPECT_EQ(other, 5);
  source_[0] = 2;
  EXPECT_EQ(cudaStreamSynchronize(streams_[1]), cudaSuccess);
  EXPECT_EQ(there, 0);
  EXPECT_EQ(cudaStreamSynchronize(streams_[0]), cudaSuccess);
  EXPECT_EQ(there, 2) << "what it is by then";
}

TEST_F(delayed_copies_test, an_event_orders_two_streams_as_far_as_it_was_recorded) {
  int first = 0, second = 0, after = 0;
  copy(0, &first, source_);
  EXPECT_EQ(cudaEventRecord(event_, streams_[0]), cudaSuccess);
  copy(0, &after, source_);
  EXPECT_EQ(cudaStreamWaitEvent(streams_[1], event_, 0), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event_, streams_[0]), cudaSuccess); // the wait is for the one before
  copy(1, &second, &first);
  EXPECT_EQ(cudaStreamSynchronize(streams_[1]), cudaSuccess);
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 1);
  EXPECT_EQ(after, 0);
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(after, 1);
}

TEST_F(delayed_copies_test, kernels_and_other_copies_come_after_what_was_queued_before) {
  int there = 0, back = 0, seen = 0;
  copy(0, &there, source_);
  EXPECT_EQ(cudaMemcpyAsync(&back, &there, sizeof back, cudaMemcpyDeviceToHost, streams_[0]),
            cudaSuccess);
  EXPECT_EQ(back, 1);
  source_[0] = 2;
  copy(0, &there, source_);
  cudaLaunchConfig_t one;
  one.gridDim = one.blockDim = {1, 1, 1};
  one.stream = streams_[0];
  EXPECT_EQ(cudaLaunchKernelEx(
                &one, +[](const int* from, int* to) { *to = *from; }, &there, &seen),
            cudaSuccess);
  EXPECT_EQ(seen, 2);
}

TEST_F(delayed_copies_test, a_copy_over_the_end_of_pinned_memory_fails) {
  int there[2] = {};
  EXPECT_EQ(cudaMemcpyAsync(there, source_ + 63, sizeof there, cudaMemcpyHostToDevice, streams_[0]),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaHostRegister(source_ + 1, 4, 0), cudaErrorHostMemoryAlreadyRegistered);
  EXPECT_EQ(cudaHostUnregister(source_ + 1), cudaErrorHostMemoryNotRegistered);
}

TEST_F(delayed_copies_test, pinned_memory_that_goes_too_early_ends_the_test) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        int there = 0;
        cudaMemcpyAsync(&there, source_, sizeof there, cudaMemcpyHostToDevice, streams_[0]);
        cudaHostUnregister(source_);
      },
      "has yet to read");
}

TEST_F(delayed_copies_test, a_device_that_failed_reads_nothing_after_it_was_waited_for) {
  const auto device = make_cuda_device(0);
  ASSERT_TRUE(device);
  const auto there = (*device)->allocate(sizeof source_);
  ASSERT_TRUE(there);
  (*device)->copy_pinned_to_device(there->data(), source_, sizeof source_);
  cuda_emulation::fail_next(cudaErrorIllegalAddress);
  (*device)->copy_pinned_to_device(there->data(), source_, sizeof source_);
  EXPECT_EQ((*device)->synchronize(), errc::device_failed);
  EXPECT_EQ(std::memcmp(there->data(), source_, sizeof source_), 0);
}

} // namespace
} // namespace troupe::gpu
