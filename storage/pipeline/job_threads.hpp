#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace troupe::storage {

/// Threads that do one job after the other: urgent ones first, each kind in the order in which they
/// were posted.
class job_threads {
public:
  explicit job_threads(uint32_t count);
  /// Does what was posted before, then returns.
  ~job_threads();
  job_threads(const job_threads&) = delete;
  job_threads& operator=(const job_threads&) = delete;

  void post(std::function<void()> job);
  void post_urgent(std::function<void()> job);

private:
  using job_list = std::deque<std::function<void()>>;
  void post_to(job_list& jobs, std::function<void()> job);
  void work();

  std::mutex mutex_;
  std::condition_variable signal_;
  job_list jobs_, urgent_jobs_;
  bool over_ = false;
  std::vector<std::thread> threads_;
};

} // namespace troupe::storage
