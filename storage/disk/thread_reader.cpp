#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "storage/disk/read_pieces.hpp"
#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// A queue and threads that call pread.
class thread_reader final : public disk_reader {
public:
  explicit thread_reader(const disk_reader_options& options) : piece_bytes_{options.piece_bytes} {
    // More threads than this gain nothing that a deep queue would not have gained before.
    const auto count = std::min(options.depth, 16u);
    for (uint32_t i = 0; i < count; ++i)
      threads_.emplace_back([this] { run(); });
  }

  ~thread_reader() override {
    std::deque<read_piece> unread;
    {
      const std::lock_guard guard{mutex_};
      stopping_ = true;
      unread.swap(waiting_);
    }
    wake_.notify_all();
    for (auto& thread : threads_)
      thread.join();
    unread.insert(unread.end(), waiting_.begin(), waiting_.end());
    for (const auto& piece : unread)
      fail(piece, caf::make_error(errc::cancelled, "the reader was stopped"));
  }

  void read(std::shared_ptr<const disk_file> file, uint64_t offset, std::span<std::byte> into,
            read_done done) override {
    auto pieces = cut_read(std::move(file), offset, into, std::move(done), piece_bytes_);
    // With the mutex held: once the last piece was read, this object may go away.
    const std::lock_guard guard{mutex_};
    waiting_.insert(waiting_.end(), pieces.begin(), pieces.end());
    wake_.notify_all();
  }

  disk_backend backend() const override { return disk_backend::threads; }

private:
  void run() {
    std::unique_lock guard{mutex_};
    for (;;) {
      wake_.wait(guard, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_)
        return;
      std::optional<read_piece> piece = std::move(waiting_.front());
      waiting_.pop_front();
      guard.unlock();
      while (piece) {
        const auto got =
            ::pread(piece->fd(), piece->into, piece->length, static_cast<off_t>(piece->offset));
        piece = settle(std::move(*piece), got < 0 ? -errno : got);
      }
      guard.lock();
    }
  }

  const uint32_t piece_bytes_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<read_piece> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

} // namespace

std::unique_ptr<disk_reader> make_thread_reader(const disk_reader_options& options) {
  return std::make_unique<thread_reader>(options);
}

} // namespace troupe::storage
