#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <deque>
#include <mutex>
#include <thread>

#include "storage/disk/read_pieces.hpp"
#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

/// One ring and the one thread that touches it; others wake that thread through an eventfd.
class uring_reader final : public disk_reader {
public:
  explicit uring_reader(const disk_reader_options& options)
      : piece_bytes_{options.piece_bytes}, depth_{options.depth} {}

  bool start() {
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
    if (wake_fd_ < 0)
      return false;
    // One entry more: the read of the eventfd is always under way.
    if (::io_uring_queue_init(depth_ + 1, &ring_, 0) < 0)
      return false;
    has_ring_ = true;
    if (!can_read())
      return false;
    thread_ = std::thread{[this] { run(); }};
    return true;
  }

  ~uring_reader() override {
    if (thread_.joinable()) {
      {
        const std::lock_guard guard{mutex_};
        stopping_ = true;
      }
      wake();
      thread_.join();
    }
    if (has_ring_)
      ::io_uring_queue_exit(&ring_);
    if (wake_fd_ >= 0)
      ::close(wake_fd_);
    for (const auto& piece : waiting_)
      fail(piece, caf::make_error(errc::cancelled, "the reader was stopped"));
  }

  void read(std::shared_ptr<const disk_file> file, uint64_t offset, std::span<std::byte> into,
            read_done done) override {
    auto pieces = cut_read(std::move(file), offset, into, std::move(done), piece_bytes_);
    // With the mutex held to the end: once the last piece was read, this object may go away.
    const std::lock_guard guard{mutex_};
    const bool was_empty = waiting_.empty();
    waiting_.insert(waiting_.end(), pieces.begin(), pieces.end());
    if (was_empty && std::this_thread::get_id() != thread_.get_id())
      wake();
  }

  disk_backend backend() const override { return disk_backend::io_uring; }

private:
  /// Kernels before 5.6 have rings, but not this operation.
  bool can_read() {
    auto* probe = ::io_uring_get_probe_ring(&ring_);
    if (probe == nullptr)
      return false;
    const bool can = ::io_uring_opcode_supported(probe, IORING_OP_READ);
    ::io_uring_free_probe(probe);
    return can;
  }

  void wake() {
    const uint64_t one = 1;
    // Fails only if the counter is full, and then the thread is awake.
    [[maybe_unused]] const auto ignored = ::write(wake_fd_, &one, sizeof one);
  }

  void run() {
    listen();
    for (;;) {
      if (!fill() && in_flight_ == 0)
        return;
      ::io_uring_submit_and_wait(&ring_, 1);
      io_uring_cqe* event = nullptr;
      while (::io_uring_peek_cqe(&ring_, &event) == 0) {
        auto* piece = static_cast<read_piece*>(::io_uring_cqe_get_data(event));
        const auto result = event->res;
        ::io_uring_cqe_seen(&ring_, event);
        if (piece == nullptr)
          listen();
        else
          finish(std::unique_ptr<read_piece>{piece}, result);
      }
    }
  }

  /// Puts waiting pieces into the ring. False once the reader is to stop.
  bool fill() {
    const std::lock_guard guard{mutex_};
    while (!stopping_ && in_flight_ < depth_ && !waiting_.empty()) {
      submit(std::make_unique<read_piece>(std::move(waiting_.front())));
      waiting_.pop_front();
    }
    return !stopping_;
  }

  void submit(std::unique_ptr<read_piece> piece) {
    auto* entry = ::io_uring_get_sqe(&ring_); // never full: depth_ + 1 entries
    ::io_uring_prep_read(entry, piece->fd(), piece->into, static_cast<unsigned>(piece->length),
                         piece->offset);
    // Copies from the page cache would be done by this thread, one after the other.
    if (!piece->direct)
      ::io_uring_sqe_set_flags(entry, IOSQE_ASYNC);
    ::io_uring_sqe_set_data(entry, piece.release());
    ++in_flight_;
  }

  void finish(std::unique_ptr<read_piece> piece, int result) {
    --in_flight_;
    if (auto rest = settle(std::move(*piece), result))
      submit(std::make_unique<read_piece>(std::move(*rest)));
  }

  void listen() {
    auto* entry = ::io_uring_get_sqe(&ring_);
    ::io_uring_prep_read(entry, wake_fd_, &wakes_, sizeof wakes_, 0);
    ::io_uring_sqe_set_data(entry, nullptr);
  }

  const uint32_t piece_bytes_;
  const uint32_t depth_;
  io_uring ring_{};
  bool has_ring_ = false;
  int wake_fd_ = -1;
  uint64_t wakes_ = 0;
  uint32_t in_flight_ = 0; // of the ring's thread
  std::mutex mutex_;
  std::deque<read_piece> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

} // namespace

std::unique_ptr<disk_reader> make_uring_reader(const disk_reader_options& options) {
  auto out = std::make_unique<uring_reader>(options);
  if (!out->start())
    return nullptr;
  return out;
}

} // namespace troupe::storage
