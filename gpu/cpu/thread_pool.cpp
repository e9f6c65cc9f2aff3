#include "gpu/cpu/thread_pool.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>

#include "gpu/cpu/host_limits.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr uint32_t open_bit = 1;
constexpr uint32_t one_helper = 2;
constexpr uint32_t helpers_mask = 0x7fe;
constexpr uint32_t loop_shift = 11;
constexpr unsigned threads_max = 1024;
/// Longer than the serial work between two loops of a model step, far shorter than a step.
constexpr std::chrono::microseconds spin_time{50};

uint32_t loop_of(uint32_t gate) { return gate >> loop_shift; }

// The system call itself rather than std::atomic::wait, which adds a spin and a lock of its own.
void sleep_while_equal(const std::atomic<uint32_t>& word, uint32_t value) {
  static_assert(sizeof word == sizeof value);
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(const std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

/// Spins until `done` or until the time is up; true if done.
template <class Done>
bool spin_until(const Done& done) {
  const auto give_up = std::chrono::steady_clock::now() + spin_time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done())
        return true;
      __builtin_ia32_pause();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  return false;
}

} // namespace

thread_pool::thread_pool(unsigned threads, core_set cores)
    : shares_(std::clamp(threads, 1u, threads_max)), cores_{std::move(cores)} {
  const auto count = static_cast<unsigned>(shares_.size());
  const auto own = cores_ ? std::min(cores_.size(), host_cores()) : host_cores();
  spin_ = count <= own; // otherwise a spinning helper keeps a working one off its core
  helpers_.reserve(count - 1);
  for (unsigned i = 1; i < count; ++i)
    helpers_.emplace_back([this, i] { help(i); });
}

thread_pool::~thread_pool() {
  stop_.store(true);
  gate_.fetch_add(1u << loop_shift);
  wake(gate_, INT_MAX);
  for (auto& helper : helpers_)
    helper.join();
}

void thread_pool::run(int64_t tasks, body_function body, const void* self) {
  cores_.hold_this_thread();
  if (tasks <= 1 || helpers_.empty()) {
    for (int64_t task = 0; task < tasks; ++task)
      body(self, task, 0);
    return;
  }
  share_out(tasks);
  body_ = body;
  self_ = self;
  const uint32_t loop = loop_of(gate_.load(std::memory_order_relaxed)) + 1;
  // Sequentially consistent with the count of sleepers: either the helper sees the new loop before
  // it sleeps, or its count is seen here.
  gate_.store((loop << loop_shift) | open_bit);
  if (const auto sleepers = sleepers_.load())
    wake(gate_, static_cast<int>(std::min<int64_t>(sleepers, tasks - 1)));
  take_tasks(0);
  gate_.fetch_and(~open_bit);
  wait_for_helpers();
}

void thread_pool::share_out(int64_t tasks) {
  const auto count = std::min(tasks, int64_t{size()});
  for (int64_t i = 0; i < count; ++i) {
    auto& one = shares_[static_cast<size_t>(i)];
    one.next.store(tasks * i / count, std::memory_order_relaxed);
    one.end = tasks * (i + 1) / count;
  }
  shares_used_ = static_cast<size_t>(count);
}

void thread_pool::take_tasks(unsigned thread) {
  for (size_t i = 0; i < shares_used_; ++i) {
    auto& from = shares_[(thread + i) % shares_used_];
    // Looking first leaves the cache line of a share that is done where it is.
    while (from.next.load(std::memory_order_relaxed) < from.end) {
      const auto task = from.next.fetch_add(1, std::memory_order_relaxed);
      if (task < from.end)
        body_(self_, task, thread);
    }
  }
}

void thread_pool::wait_for_helpers() {
  const auto none_inside = [this] {
    return (gate_.load(std::memory_order_acquire) & helpers_mask) == 0;
  };
  if (none_inside() || (spin_ && spin_until(none_inside)))
    return;
  caller_sleeps_.store(true);
  for (auto gate = gate_.load(); (gate & helpers_mask) != 0; gate = gate_.load())
    sleep_while_equal(gate_, gate);
  caller_sleeps_.store(false);
}

uint32_t thread_pool::wait_for_new_loop(uint32_t seen) {
  const auto is_new = [&] { return loop_of(gate_.load(std::memory_order_relaxed)) != seen; };
  if (!is_new() && !(spin_ && spin_until(is_new))) {
    sleepers_.fetch_add(1);
    for (auto gate = gate_.load(); loop_of(gate) == seen; gate = gate_.load())
      sleep_while_equal(gate_, gate);
    sleepers_.fetch_sub(1);
  }
  return gate_.load(std::memory_order_acquire);
}

void thread_pool::help(unsigned thread) {
  cores_.hold_this_thread();
  uint32_t seen = 0;
  for (;;) {
    auto gate = wait_for_new_loop(seen);
    if (stop_.load())
      return;
    seen = loop_of(gate);
    bool inside = false;
    while (!inside && loop_of(gate) == seen && (gate & open_bit) != 0)
      inside = gate_.compare_exchange_weak(gate, gate + one_helper, std::memory_order_acquire);
    if (!inside)
      continue;
    take_tasks(thread);
    const auto left = gate_.fetch_sub(one_helper) - one_helper;
    if ((left & (helpers_mask | open_bit)) == 0 && caller_sleeps_.load())
      wake(gate_, INT_MAX);
  }
}

} // namespace troupe::gpu::cpu
