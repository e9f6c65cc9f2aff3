#include <cuda_runtime.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "engine/errors.hpp"
#include "engine/model/weight_job.hpp"
#include "tests/engine/device/devices.hpp"

namespace troupe::engine {
namespace {

/// A weight that lies in memory which is mapped twice, as a host pool's is: jobs see the one
/// mapping, a device reads, where it is pinned, the other. What is dropped is overwritten at once.
class direct_weights_test : public testing::Test {
protected:
  static constexpr uint64_t chunk = 1 << 20;
  static constexpr int64_t rows = 4500, cols = 4128; // steps and chunks end within rows
  static constexpr uint64_t row_bytes = cols * 2, size = rows * row_bytes;

  direct_weights_test() : pinner_{device_->pinner()} {
    const int fd = ::memfd_create("weights", MFD_CLOEXEC);
    EXPECT_EQ(::ftruncate(fd, size), 0);
    for (auto** one : {&view_, &pool_})
      *one =
          static_cast<std::byte*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    ::close(fd);
    std::minstd_rand random{5};
    for (uint64_t at = 0; at < size; at += 2) {
      const auto value = static_cast<uint16_t>(0x3f00 + random() % 256); // 0.5 to 2
      std::memcpy(pool_ + at, &value, 2);
    }
    expected_.assign(pool_, pool_ + size);
    for (uint64_t i = 0; i * chunk < size; ++i)
      if (is_pinned(i)) {
        EXPECT_FALSE(pinner_->pin(part(i)));
      }
  }
  ~direct_weights_test() override {
    for (uint64_t i = 0; i * chunk < size; ++i)
      if (is_pinned(i))
        pinner_->unpin(part(i));
    ::munmap(view_, size);
    ::munmap(pool_, size);
  }

  static bool is_pinned(uint64_t index) { return index % 3 != 1; }
  std::span<std::byte> part(uint64_t index) {
    return {pool_ + index * chunk, std::min(chunk, size - index * chunk)};
  }
  pinned_run run_at(const std::byte* at, uint64_t bytes) const {
    const auto offset = static_cast<uint64_t>(at - view_);
    const auto length = std::min(bytes, (offset / chunk + 1) * chunk - offset);
    return {is_pinned(offset / chunk) ? pool_ + offset : nullptr, length};
  }

  weight_job job(void* memory, dtype to) {
    weight_job out;
    out.from.type = dtype::bf16;
    out.from.shape = {rows, cols};
    out.from.data = view_;
    out.from.pinned = [this](const std::byte* at, uint64_t bytes) { return run_at(at, bytes); };
    out.from.wait = [this](int64_t wanted, const std::stop_token&) -> caf::error {
      there_ = wanted;
      if (wanted > fails_after_)
        return caf::make_error(errc::wrong_tensor, "the rest is not there");
      return {};
    };
    out.from.drop = [this](int64_t gone) {
      dropped_ = gone;
      std::fill_n(pool_, static_cast<uint64_t>(gone) * row_bytes, std::byte{0xff});
    };
    out.to = {memory, to, rows, cols};
    out.memory = memory;
    return out;
  }
  std::vector<std::byte> read(const gpu::buffer& from, uint64_t bytes = size) {
    std::vector<std::byte> out(bytes);
    device_->copy_to_host(out.data(), from.data(), bytes);
    EXPECT_FALSE(device_->synchronize());
    return out;
  }
  static uint64_t direct_bytes() { return cuda_emulation::copies().registered_bytes; }

  std::unique_ptr<gpu::device> device_ = test::cuda_or_null();
  std::shared_ptr<memory_pinner> pinner_;
  std::byte *view_ = nullptr, *pool_ = nullptr;
  std::vector<std::byte> expected_;
  int64_t there_ = 0, dropped_ = 0, fails_after_ = rows;
};

TEST_F(direct_weights_test, go_to_the_device_from_where_they_are_pinned_and_stay_until_then) {
  const auto queue = device_->second_queue();
  const auto memory = device_->allocate(size);
  ASSERT_TRUE(memory && !device_->synchronize());
  const auto before = direct_bytes();
  ASSERT_FALSE(run_job(job(memory->data(), dtype::bf16), *queue));
  uint64_t pinned = 0;
  for (uint64_t i = 0; i * chunk < size; ++i)
    pinned += is_pinned(i) ? part(i).size() : 0;
  EXPECT_EQ(direct_bytes() - before, pinned);
  EXPECT_EQ(dropped_, rows);
  EXPECT_EQ(read(*memory), expected_);
}

TEST_F(direct_weights_test, that_are_read_again_are_not_dropped) {
  const auto memory = device_->allocate(size);
  ASSERT_TRUE(memory);
  auto first = job(memory->data(), dtype::bf16);
  first.last_use = false;
  ASSERT_FALSE(run_job(first, *device_));
  EXPECT_EQ(dropped_, 0);
  ASSERT_FALSE(run_job(job(memory->data(), dtype::bf16), *device_));
  EXPECT_EQ(dropped_, rows);
  EXPECT_EQ(read(*memory), expected_);
}

TEST_F(direct_weights_test, that_are_converted_on_the_device_come_to_it_directly_too) {
  const auto quantized = [&](bool direct) {
    const auto bytes = bytes_of(dtype::q8_0, rows * cols);
    const auto memory = device_->allocate(bytes);
    EXPECT_TRUE(memory);
    auto one = job(memory->data(), dtype::q8_0);
    one.last_use = direct;
    if (!direct)
      one.from.pinned = nullptr;
    const auto before = direct_bytes();
    EXPECT_FALSE(run_job(one, *device_));
    EXPECT_EQ(direct_bytes() > before, direct);
    return read(*memory, bytes);
  };
  const auto staged = quantized(false);
  EXPECT_EQ(quantized(true), staged);
}

TEST_F(direct_weights_test, of_a_job_that_is_given_up_are_not_read_afterwards) {
  const auto memory = device_->allocate(size);
  ASSERT_TRUE(memory);
  fails_after_ = rows / 2;
  const auto why = run_job(job(memory->data(), dtype::bf16), *device_);
  EXPECT_EQ(why, errc::wrong_tensor);
  EXPECT_GT(dropped_, 0);
  EXPECT_LT(dropped_, there_);
  const auto bytes = static_cast<uint64_t>(dropped_) * row_bytes;
  const auto got = read(*memory, bytes);
  EXPECT_TRUE(std::equal(got.begin(), got.end(), expected_.begin()));
}

} // namespace
} // namespace troupe::engine
