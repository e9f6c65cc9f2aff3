#include "engine/model/weight_job.hpp"

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

/// Rows are made in pieces of about this many bytes: enough to occupy a thread for a while.
constexpr uint64_t piece_bytes = uint64_t{1} << 20;
/// Rows go to a device in steps of so many pieces.
constexpr uint64_t step_pieces = 16;

/// Rows that go to a device at once. Blocks are laid out in groups of 16 rows or fewer on every
/// device, so only the last step may break one.
int64_t step_rows(int64_t rows, uint64_t row_bytes) {
  constexpr int64_t group = 16;
  const auto step = static_cast<int64_t>(step_pieces * piece_bytes / row_bytes) / group * group;
  return std::min(rows, std::max(step, group));
}

/// Makes rows [first, first + count) of `found` at `to`, with all cores if there is much to do.
void make_rows(const weight_view& found, int64_t first, int64_t count, uint64_t row_bytes,
               std::byte* to) {
  const auto piece = std::max<int64_t>(1, static_cast<int64_t>(piece_bytes / row_bytes));
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (auto at = next.fetch_add(piece); at < count; at = next.fetch_add(piece))
      found.make(first + at, std::min(piece, count - at),
                 to + static_cast<uint64_t>(at) * row_bytes);
  };
  const auto pieces = (count + piece - 1) / piece;
  const auto cores = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::jthread> helpers;
  for (int64_t i = 1; i < std::min<int64_t>(cores, pieces); ++i)
    helpers.emplace_back(work);
  work();
}

/// One job under way.
class job_run {
public:
  job_run(const weight_job& job, gpu::device& queue)
      : job_{job}, queue_{queue}, rows_{job.from.shape[0]}, cols_{job.from.shape.size() == 1
                                                                      ? 1
                                                                      : job.from.shape[1]},
        row_bytes_{bytes_of(job.from.type, static_cast<uint64_t>(cols_))},
        converts_{job.to.type != job.from.type || job.to.layout != gpu::weight_layout::rows},
        host_{queue.reads_host_memory()} {}

  caf::error run(const std::stop_token& stop) {
    auto why = run_steps(stop);
    // Also of a job that is given up: its place may be somebody else's next, and so may what a
    // device reads by itself.
    auto failed = queue_.synchronize();
    if (undropped_ > 0)
      job_.from.drop(undropped_);
    return why ? why : failed;
  }

private:
  caf::error run_steps(const std::stop_token& stop) {
    const auto& from = job_.from;
    // What is in host memory goes at once.
    const auto step = from.make || from.wait ? step_rows(rows_, row_bytes_) : rows_;
    if (auto why = make_room(step))
      return why;
    for (int64_t row = 0; row < rows_; row += step) {
      const auto count = std::min(step, rows_ - row);
      if (from.wait)
        if (auto why = from.wait(row + count, stop))
          return why;
      if (stop.stop_requested())
        return {};
      // Devices read what they copy, unless it is pinned, before they return: so the room may be
      // written again, and the source go, while a copy is still under way.
      move(row, count);
      if (job_.last_use && from.drop)
        drop(row + count);
    }
    return from.check ? from.check() : caf::error{};
  }

  void drop(int64_t rows) {
    if (read_directly_)
      undropped_ = rows;
    else
      job_.from.drop(rows);
  }

  caf::error make_room(int64_t step) {
    const auto bytes = static_cast<uint64_t>(step) * row_bytes_;
    if (job_.from.make && (converts_ || !host_))
      made_.resize(bytes);
    if (!converts_ || host_)
      return {};
    auto memory = queue_.allocate(bytes);
    if (!memory)
      return caf::make_error(errc::out_of_memory, "converting weights on " + queue_.name() + ": " +
                                                      describe(memory.error()));
    staged_ = std::move(*memory);
    return {};
  }

  void move(int64_t row, int64_t count) {
    const auto& from = job_.from;
    const auto bytes = static_cast<uint64_t>(count) * row_bytes_;
    const auto* source =
        static_cast<const std::byte*>(from.data) + static_cast<uint64_t>(row) * row_bytes_;
    auto* out = static_cast<std::byte*>(job_.memory) +
                bytes_of(job_.to.type, static_cast<uint64_t>(row * cols_));
    if (from.make) {
      auto* made = made_.empty() ? out : made_.data();
      make_rows(from, row, count, row_bytes_, made);
      source = made;
    }
    if (!converts_) {
      if (source != out)
        copy(out, source, bytes);
      return;
    }
    const void* readable = source;
    if (staged_) {
      copy(staged_.as<std::byte>(), source, bytes);
      readable = staged_.data();
    }
    queue_.quantize({{readable, from.type, count, cols_}, out, job_.to.type, job_.to.layout});
  }

  /// From where a device reads by itself, if there is such a place.
  void copy(std::byte* to, const std::byte* from, uint64_t bytes) {
    for (uint64_t done = 0; done < bytes;) {
      pinned_run run{nullptr, bytes - done};
      if (job_.from.pinned && !job_.from.make && !host_)
        run = job_.from.pinned(from + done, bytes - done);
      if (run.pinned != nullptr) {
        queue_.copy_pinned_to_device(to + done, run.pinned, run.size_bytes);
        read_directly_ = true;
      } else {
        queue_.copy_to_device(to + done, from + done, run.size_bytes);
      }
      done += run.size_bytes;
    }
  }

  const weight_job& job_;
  gpu::device& queue_;
  const int64_t rows_;
  const int64_t cols_; ///< 1 for a vector, whose rows are its elements
  const uint64_t row_bytes_;
  const bool converts_;
  const bool host_; ///< the device reads host memory
  std::vector<std::byte> made_;
  gpu::buffer staged_;
  bool read_directly_ = false; ///< from the source, which stays until the queue was synchronized
  int64_t undropped_ = 0;      ///< rows that may be dropped then
};

/// In pieces, so that who waits for the loan, or for this to stop, does not wait for long.
caf::error copy_twin(const weight_job& job, gpu::device& queue, const std::stop_token& stop) {
  constexpr uint64_t piece = step_pieces * piece_bytes;
  caf::error why;
  const auto bytes = job.size_bytes();
  for (uint64_t done = 0; done < bytes && !why && !stop.stop_requested(); done += piece) {
    if (job.loan->is_called_back())
      why = caf::make_error(errc::no_twin, "the weights that were being copied are to go");
    else
      queue.copy_from(job.loan->home(), static_cast<std::byte*>(job.memory) + done,
                      static_cast<const std::byte*>(job.twin) + done,
                      std::min(piece, bytes - done));
  }
  auto failed = queue.synchronize();
  return why ? why : failed;
}

} // namespace

uint64_t weight_job::size_bytes() const {
  return bytes_of(to.type, static_cast<uint64_t>(to.rows * to.cols));
}

caf::error run_job(const weight_job& job, gpu::device& queue, const std::stop_token& stop) {
  if (job.loan != nullptr)
    return copy_twin(job, queue, stop);
  if (job.memory != nullptr)
    return job_run{job, queue}.run(stop);
  return job.from.wait ? job.from.wait(job.from.shape[0], stop) : caf::error{};
}

} // namespace troupe::engine
