#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "gpu/cpu/core_set.hpp"

namespace troupe::gpu::cpu {

/// Threads that share short loops with the thread that calls `run`. Made for loops of ten
/// microseconds and more: helpers spin for a moment after each loop, then sleep until the next, so
/// that an idle pool costs nothing. A helper that wakes too late misses the loop; nobody waits for
/// it. `run` is called by one thread at a time and not from within a body.
///
/// Each thread has a share of the tasks, one behind another, and goes on with those that are left
/// in the shares of others: what a task asks of memory ahead of its end is mostly the next one's.
///
///     closed, no helpers --run--> open --tasks are all taken--> closed --last helper leaves--> ...
class thread_pool {
public:
  /// `threads` counts the calling thread; at most 1024 are used. With `cores`, all of them, callers
  /// of `run` included, are held to these.
  explicit thread_pool(unsigned threads, core_set cores = {});
  ~thread_pool();
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  unsigned size() const { return static_cast<unsigned>(helpers_.size()) + 1; }

  /// Calls body(task, thread) once for every task in 0 .. tasks - 1, where `thread` is below size()
  /// and never the same in two calls that overlap. Returns when all calls have. `body` must not
  /// throw.
  template <class Body>
  void run(int64_t tasks, const Body& body) {
    run(
        tasks,
        [](const void* self, int64_t task, unsigned thread) {
          (*static_cast<const Body*>(self))(task, thread);
        },
        &body);
  }

private:
  using body_function = void (*)(const void* self, int64_t task, unsigned thread);

  void run(int64_t tasks, body_function body, const void* self);
  void share_out(int64_t tasks);
  void take_tasks(unsigned thread);
  void help(unsigned thread);
  uint32_t wait_for_new_loop(uint32_t seen);
  void wait_for_helpers();

  /// Bit 0: a loop is open. Bits 1 .. 10: helpers inside it. The rest: number of the loop.
  std::atomic<uint32_t> gate_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
  /// On cache lines of its own: mostly one thread takes tasks from it.
  struct alignas(64) share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  // Written only while the gate is closed and nobody is inside.
  std::vector<share> shares_; ///< one for each thread
  alignas(64) size_t shares_used_ = 0;
  body_function body_ = nullptr;
  const void* self_ = nullptr;
  bool spin_ = true;
  core_set cores_;
  std::vector<std::thread> helpers_;
};

} // namespace troupe::gpu::cpu
