#include "storage/pipeline/job_threads.hpp"

#include <algorithm>
#include <utility>

namespace troupe::storage {

job_threads::job_threads(uint32_t count) {
  for (uint32_t i = 0; i < std::max(count, 1u); ++i)
    threads_.emplace_back([this] { work(); });
}

job_threads::~job_threads() {
  {
    const std::lock_guard guard{mutex_};
    over_ = true;
  }
  signal_.notify_all();
  for (auto& thread : threads_)
    thread.join();
}

void job_threads::post(std::function<void()> job) {
  // Notified with the mutex held: the job may be what somebody waits for who then destroys this
  // object, and without the mutex that could happen before the notification.
  const std::lock_guard guard{mutex_};
  jobs_.push_back(std::move(job));
  signal_.notify_one();
}

void job_threads::work() {
  std::unique_lock guard{mutex_};
  for (;;) {
    signal_.wait(guard, [this] { return over_ || !jobs_.empty(); });
    if (jobs_.empty())
      return;
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    guard.unlock();
    job();
    job = nullptr; // what it holds ends outside the lock
    guard.lock();
  }
}

} // namespace troupe::storage
