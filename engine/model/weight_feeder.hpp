#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/model/weight_job.hpp"

namespace troupe::engine {

/// Does weight jobs one after the other on a thread of its own, while the model may run already.
class weight_feeder {
public:
  /// `queue` = another queue of the device that runs the model. `news` is called on the thread,
  /// about thirty times in all, when what `ready` was asked for is there, and when it is over; may
  /// be null. `loan` = what jobs copy from, if they do; held until the last one has ended.
  weight_feeder(std::vector<weight_job> jobs, std::unique_ptr<gpu::device> queue,
                std::function<void()> news,
                std::shared_ptr<const weight_twins::loan> loan = nullptr);
  /// Gives up what is left.
  ~weight_feeder();
  weight_feeder(const weight_feeder&) = delete;
  weight_feeder& operator=(const weight_feeder&) = delete;

  /// Blocks until the first `tensors` tensors of the plan are at their places; fails once one of
  /// all will never be there.
  caf::error wait(size_t tensors) const;
  /// Whether they are, without waiting; if not, `news` is called once they are.
  caf::expected<bool> ready(size_t tensors);
  weight_state state() const;
  /// All are there.
  bool is_over() const { return over_.load(std::memory_order_acquire); }

private:
  void work(const std::stop_token& stop);
  void measure_waits();
  void note(size_t tensors, uint64_t bytes, caf::error why);

  std::vector<weight_job> jobs_;
  std::shared_ptr<const weight_twins::loan> loan_; ///< of the thread
  const std::unique_ptr<gpu::device> queue_;
  const std::function<void()> news_;
  uint64_t total_bytes_ = 0;
  // Of the thread:
  uint64_t told_bytes_ = 0;
  std::chrono::steady_clock::time_point began_{};
  std::chrono::steady_clock::duration waited_{};
  std::atomic<bool> over_{false};
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  size_t tensors_ = 0;
  size_t asked_ = 0; ///< tensors that somebody wants to hear of; 0 = none
  weight_state state_;
  std::jthread thread_;
};

} // namespace troupe::engine
