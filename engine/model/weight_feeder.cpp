#include "engine/model/weight_feeder.hpp"

#include <cstdint>
#include <utility>

namespace troupe::engine {

namespace {

/// What is told in between: often enough to start a model in time, seldom enough to cost nothing.
constexpr uint64_t news_parts = 32;

} // namespace

weight_feeder::weight_feeder(std::vector<weight_job> jobs, std::unique_ptr<gpu::device> queue,
                             std::function<void()> news,
                             std::shared_ptr<const weight_twins::loan> loan)
    : jobs_{std::move(jobs)}, loan_{std::move(loan)}, queue_{std::move(queue)}, news_{std::move(
                                                                                    news)} {
  for (const auto& job : jobs_)
    total_bytes_ += job.size_bytes();
  state_.total_bytes = state_.left_bytes = total_bytes_;
  measure_waits();
  thread_ = std::jthread{[this](const std::stop_token& stop) {
    work(stop);
    loan_ = nullptr;
  }};
}

weight_feeder::~weight_feeder() = default; // the thread is stopped and joined first

caf::error weight_feeder::wait(size_t tensors) const {
  if (is_over())
    return {};
  std::unique_lock guard{mutex_};
  changed_.wait(guard, [&] { return state_.why || tensors_ >= tensors; });
  return state_.why;
}

caf::expected<bool> weight_feeder::ready(size_t tensors) {
  if (is_over())
    return true;
  const std::lock_guard guard{mutex_};
  if (state_.why)
    return state_.why;
  if (tensors_ >= tensors)
    return true;
  asked_ = tensors;
  return false;
}

weight_state weight_feeder::state() const {
  const std::lock_guard guard{mutex_};
  return state_;
}

void weight_feeder::measure_waits() {
  for (auto& job : jobs_)
    if (job.from.wait)
      job.from.wait = [this, wait = std::move(job.from.wait)](int64_t rows,
                                                              const std::stop_token& stop) {
        const auto began = std::chrono::steady_clock::now();
        auto why = wait(rows, stop);
        waited_ += std::chrono::steady_clock::now() - began;
        return why;
      };
}

void weight_feeder::work(const std::stop_token& stop) {
  began_ = std::chrono::steady_clock::now();
  uint64_t done = 0;
  for (size_t i = 0; i < jobs_.size(); ++i) {
    auto why = run_job(jobs_[i], *queue_, stop);
    if (stop.stop_requested())
      return;
    done += jobs_[i].size_bytes();
    const bool last = i + 1 == jobs_.size();
    const bool failed = static_cast<bool>(why);
    note(last ? SIZE_MAX : jobs_[i + 1].tensors - 1, done, std::move(why));
    if (failed)
      return;
  }
}

void weight_feeder::note(size_t tensors, uint64_t bytes, caf::error why) {
  const bool failed = static_cast<bool>(why);
  const auto busy = std::chrono::steady_clock::now() - began_ - waited_;
  bool asked = false;
  {
    const std::lock_guard guard{mutex_};
    tensors_ = tensors;
    asked = asked_ != 0 && tensors >= asked_;
    if (asked)
      asked_ = 0;
    state_.left_bytes = total_bytes_ - bytes;
    state_.why = std::move(why);
    state_.busy_seconds = std::chrono::duration<double>(busy).count();
  }
  if (!failed && bytes == total_bytes_)
    over_.store(true, std::memory_order_release);
  changed_.notify_all();
  if (news_ && (failed || asked || bytes == total_bytes_ ||
                bytes - told_bytes_ >= total_bytes_ / news_parts)) {
    told_bytes_ = bytes;
    news_();
  }
}

} // namespace troupe::engine
