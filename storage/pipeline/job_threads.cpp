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

void job_threads::post(std::function<void()> job) { post_to(jobs_, std::move(job)); }

void job_threads::post_urgent(std::function<void()> job) { post_to(urgent_jobs_, std::move(job)); }

void job_threads::post_to(job_list& jobs, std::function<void()> job) {
  // Notified with the mutex held: the job may be what somebody waits for who then destroys this
  // object, and without the mutex that could happen before the notification.
  const std::lock_guard guard{mutex_};
  jobs.push_back(std::move(job));
  signal_.notify_one();
}

void job_threads::work() {
  std::unique_lock guard{mutex_};
  for (;;) {
    signal_.wait(guard, [this] { return over_ || !jobs_.empty() || !urgent_jobs_.empty(); });
    auto& jobs = urgent_jobs_.empty() ? jobs_ : urgent_jobs_;
    if (jobs.empty())
      return;
    auto job = std::move(jobs.front());
    jobs.pop_front();
    guard.unlock();
    job();
    job = nullptr; // what it holds ends outside the lock
    guard.lock();
  }
}

} // namespace troupe::storage
