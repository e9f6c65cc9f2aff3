#include <sys/mman.h>

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "gpu/device.hpp"

namespace troupe::gpu {
namespace {

/// Memory as a host pool has it, shared and in chunks that are pinned one by one; on a device that
/// is emulated, or real.
class cuda_pinned_test : public testing::Test {
protected:
  static constexpr size_t chunk = 1 << 20, chunks = 6;

  void SetUp() override {
    auto made = make_cuda_device(0);
    if (!made)
      GTEST_SKIP() << "no GPU: " << describe(made.error());
    device_ = std::move(*made);
    pinner_ = device_->pinner();
    ASSERT_TRUE(pinner_);
    memory_ = static_cast<std::byte*>(
        ::mmap(nullptr, chunks * chunk, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory_, MAP_FAILED);
    for (size_t i = 0; i < chunks; ++i)
      ASSERT_FALSE(pinner_->pin(at(i)));
    fill(0);
  }
  void TearDown() override {
    if (!device_)
      return;
    EXPECT_FALSE(device_->synchronize());
    for (size_t i = 0; i < chunks; ++i)
      pinner_->unpin(at(i));
    ::munmap(memory_, chunks * chunk);
  }

  std::span<std::byte> at(size_t index) { return {memory_ + index * chunk, chunk}; }
  /// Words that tell place and round.
  void fill(uint32_t round) {
    for (uint32_t i = 0; i < chunks * chunk / 4; ++i) {
      const uint32_t word = i * 2654435761u + round;
      std::memcpy(memory_ + size_t{i} * 4, &word, 4);
    }
  }
  std::vector<std::byte> everything() const { return {memory_, memory_ + chunks * chunk}; }
  static std::vector<std::byte> read(device& queue, const buffer& from) {
    std::vector<std::byte> out(from.size_bytes());
    queue.copy_to_host(out.data(), from.data(), out.size());
    EXPECT_FALSE(queue.synchronize());
    return out;
  }

  std::unique_ptr<device> device_;
  std::shared_ptr<memory_pinner> pinner_;
  std::byte* memory_ = nullptr;
};

TEST_F(cuda_pinned_test, every_byte_arrives_from_every_queue) {
  const auto other = device_->second_queue();
  ASSERT_TRUE(other);
  uint32_t round = 0;
  for (auto* queue : {device_.get(), other.get()}) {
    fill(++round);
    const auto there = device_->allocate(chunks * chunk);
    ASSERT_TRUE(there && !device_->synchronize());
    // Parts of chunks, from places and of lengths that nothing is aligned to.
    for (size_t i = 0; i < chunks; ++i) {
      const size_t cut = 17 + i * 99'991;
      auto* to = there->as<std::byte>() + i * chunk;
      queue->copy_pinned_to_device(to + cut, at(i).data() + cut, chunk - cut);
      queue->copy_pinned_to_device(to, at(i).data(), cut);
      queue->copy_pinned_to_device(to, at(i).data(), 0);
    }
    EXPECT_EQ(read(*queue, *there), everything());
  }
}

TEST_F(cuda_pinned_test, copies_keep_their_place_among_ops_and_other_copies) {
  const auto there = device_->allocate(2 * chunk);
  ASSERT_TRUE(there);
  auto* first = there->as<std::byte>();
  const std::vector<std::byte> large(3 * chunk / 2, std::byte{7}), small(100, std::byte{9});
  for (int round = 0; round < 20; ++round) {
    device_->copy_pinned_to_device(first, at(0).data(), chunk);
    device_->copy(first + chunk, first, chunk); // of what came
    device_->copy_to_device(first, large.data(), large.size());
    device_->copy_pinned_to_device(first + 50, at(1).data(), 1000);
    device_->copy_to_device(first + 60, small.data(), small.size());
    const auto got = read(*device_, *there);
    std::vector<std::byte> want(2 * chunk);
    std::copy_n(at(0).data(), chunk, want.begin() + chunk);
    std::ranges::copy(large, want.begin());
    std::copy_n(at(1).data(), 1000, want.begin() + 50);
    std::ranges::copy(small, want.begin() + 60);
    ASSERT_EQ(got, want);
  }
}

TEST_F(cuda_pinned_test, what_goes_through_lanes_comes_after_what_was_queued_before) {
  // So much that lanes fill slots again, and so have to wait for their first pieces.
  const std::vector<std::byte> large(40 * chunk, std::byte{7});
  const auto there = device_->allocate(large.size());
  ASSERT_TRUE(there);
  for (size_t i = 0; i < chunks; ++i)
    device_->copy_pinned_to_device(there->as<std::byte>() + i * chunk, at(i).data(), chunk);
  device_->copy_to_device(there->data(), large.data(), large.size());
  EXPECT_EQ(read(*device_, *there), large);
}

TEST_F(cuda_pinned_test, memory_may_change_after_the_queue_was_waited_for) {
  const auto there = device_->allocate(chunk);
  ASSERT_TRUE(there);
  for (uint32_t round = 0; round < 8; ++round) {
    fill(round);
    device_->copy_pinned_to_device(there->data(), at(2).data(), chunk);
    ASSERT_FALSE(device_->synchronize());
    const std::vector<std::byte> want(at(2).begin(), at(2).end());
    fill(~round);
    ASSERT_EQ(read(*device_, *there), want);
  }
}

TEST_F(cuda_pinned_test, memory_is_pinned_once_and_again_after_it_was_unpinned) {
  EXPECT_TRUE(pinner_->pin(at(3)));
  pinner_->unpin(at(3));
  EXPECT_FALSE(pinner_->pin(at(3)));
  const auto other = make_cuda_device(0);
  ASSERT_TRUE(other);
  EXPECT_TRUE((*other)->pinner()->pin(at(3))) << "it is pinned for all devices";
  // A failure to pin is none of the device.
  const auto there = (*other)->allocate(chunk);
  ASSERT_TRUE(there);
  (*other)->copy_pinned_to_device(there->data(), at(3).data(), chunk);
  EXPECT_EQ(read(**other, *there), std::vector<std::byte>(at(3).begin(), at(3).end()));
}

} // namespace
} // namespace troupe::gpu
