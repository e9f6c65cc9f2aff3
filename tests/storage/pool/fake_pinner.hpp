#pragma once
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "base/memory_pinner.hpp"
#include "storage/errors.hpp"

namespace troupe::storage::test {

/// Pins memory as the kernel does for a device: a pipe holds its pages, so what is read from it is
/// what lies in those very pages, whatever is mapped at their addresses by then. Fails the test if
/// memory is pinned twice, unpinned otherwise than it was pinned or while it is being read, or left
/// pinned.
class fake_pinner final : public memory_pinner {
public:
  ~fake_pinner() override { EXPECT_TRUE(held_.empty()) << "left pinned"; }

  caf::error pin(std::span<std::byte> memory) override {
    if (before_)
      before_();
    const std::lock_guard guard{mutex_};
    if (refuses_from_ && held_.size() >= *refuses_from_)
      return caf::make_error(errc::no_memory, "pinning: no more");
    for (const auto& [begin, one] : held_)
      EXPECT_TRUE(begin >= memory.data() + memory.size() || begin + one.size <= memory.data())
          << "pinned twice";
    entry made{.size = memory.size()};
    EXPECT_EQ(::pipe2(made.pages, O_CLOEXEC), 0);
    EXPECT_GE(::fcntl(made.pages[1], F_SETPIPE_SZ, static_cast<int>(memory.size())), 0);
    const iovec all{memory.data(), memory.size()};
    EXPECT_EQ(::vmsplice(made.pages[1], &all, 1, 0), static_cast<ssize_t>(memory.size()));
    held_.emplace(memory.data(), made);
    order_.push_back(memory.data());
    changed_.notify_all();
    return {};
  }

  void unpin(std::span<std::byte> memory) noexcept override {
    const std::lock_guard guard{mutex_};
    const auto at = held_.find(memory.data());
    ASSERT_TRUE(at != held_.end() && at->second.size == memory.size()) << "was not pinned";
    EXPECT_EQ(at->second.readers, 0) << "unpinned while a device reads it";
    ::close(at->second.pages[0]);
    ::close(at->second.pages[1]);
    held_.erase(at);
  }

  /// What a device reads there; it is reading until `end` is called.
  std::vector<std::byte> begin_read(const std::byte* from, size_t size) {
    const std::lock_guard guard{mutex_};
    const auto at = find(from, size);
    if (at == held_.end())
      return {};
    ++at->second.readers;
    std::vector<std::byte> all(at->second.size);
    int copy[2];
    EXPECT_EQ(::pipe2(copy, O_CLOEXEC), 0);
    EXPECT_GE(::fcntl(copy[1], F_SETPIPE_SZ, static_cast<int>(all.size())), 0);
    EXPECT_EQ(::tee(at->second.pages[0], copy[1], all.size(), 0), static_cast<ssize_t>(all.size()));
    EXPECT_EQ(::read(copy[0], all.data(), all.size()), static_cast<ssize_t>(all.size()));
    ::close(copy[0]);
    ::close(copy[1]);
    const auto offset = from - at->first;
    return {all.begin() + offset, all.begin() + offset + static_cast<std::ptrdiff_t>(size)};
  }
  void end_read(const std::byte* from) {
    const std::lock_guard guard{mutex_};
    --find(from, 1)->second.readers;
  }

  /// Blocks until so many calls of `pin` succeeded.
  void wait_for(size_t calls) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return order_.size() >= calls; });
  }
  /// What was pinned, in order.
  std::vector<const std::byte*> order() const {
    const std::lock_guard guard{mutex_};
    return {order_.begin(), order_.end()};
  }
  void refuse_from(size_t pinned) { refuses_from_ = pinned; } ///< before it is used
  void before_pin(std::function<void()> call) { before_ = std::move(call); }

private:
  struct entry {
    size_t size = 0;
    int pages[2] = {-1, -1};
    int readers = 0;
  };
  std::map<const std::byte*, entry>::iterator find(const std::byte* from, size_t size) {
    auto at = held_.upper_bound(from);
    if (at == held_.begin() || from + size > std::prev(at)->first + std::prev(at)->second.size) {
      ADD_FAILURE() << "a device reads what is not pinned, or not by one call";
      return held_.end();
    }
    return std::prev(at);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<const std::byte*, entry> held_;
  std::vector<std::byte*> order_;
  std::optional<size_t> refuses_from_;
  std::function<void()> before_;
};

} // namespace troupe::storage::test
