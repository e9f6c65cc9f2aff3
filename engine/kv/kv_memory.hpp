#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "gpu/device.hpp"
#include "policies/kv_share.hpp"

namespace troupe::engine {

/// A model that borrows from a `kv_memory`. All calls come while it runs no step of its own, or
/// while it asks for memory itself.
class kv_borrower {
public:
  virtual ~kv_borrower() = default;
  virtual policies::kv_holding holding() const = 0;
  /// Forgets what its least recently used spare run remembers, and gives the run back.
  virtual void give_up_spare() = 0;
  /// Pushes out its youngest sequence, and gives back the runs that are empty then. What is kept of
  /// the sequence has been copied to the host when it returns.
  virtual void push_out() = 0;
  /// The contents of its run `slot` have been moved to span `first`.
  virtual void moved(int32_t slot, int32_t first) = 0;
};

/// The KV memory of a device, which its models borrow from by need: one buffer, cut into spans. A
/// model borrows runs of consecutive spans, a power of two at a multiple of itself. Where free
/// spans lie too far apart for a run, smaller runs are moved out of its way.
///
/// One thread at a time. Borrowing takes nothing from the heap.
class kv_memory {
public:
  /// Of `size_bytes` at most, in spans of `span_bytes`, 0 = 4 MiB, less if there were few of those.
  /// `device` must outlive it. Fails with out_of_memory.
  static caf::expected<std::shared_ptr<kv_memory>> create(gpu::device& device, uint64_t size_bytes,
                                                          uint64_t span_bytes = 0);

  gpu::device& device() const { return device_; }
  std::byte* base() const { return buffer_.as<std::byte>(); }
  uint64_t span_bytes() const { return span_bytes_; }
  uint64_t spans() const { return owners_.size(); }
  uint64_t free_spans() const { return free_; }
  uint64_t size_bytes() const { return span_bytes_ * spans(); }
  uint64_t borrowed_bytes() const { return (spans() - free_) * span_bytes_; }
  /// Counts the events that are told apart by which came first.
  uint64_t tick() { return ++clock_; }

  /// Each once, and not any more before it goes.
  void join(kv_borrower& who);
  /// Gives back all that it has.
  void leave(kv_borrower& who);

  struct lent {
    policies::kv_relief how = policies::kv_relief::none; ///< borrow, own_block or none
    int32_t first = 0;                                   ///< span
  };
  /// Lends a run of `plea.spans` spans as `who`'s run `slot`, after others made room for it if need
  /// be, or says where else the room is.
  lent lend(kv_borrower& who, int32_t slot, const policies::kv_plea& plea);
  void give_back(int32_t first);
  /// Spans that `who` could get for a sequence that comes now.
  uint64_t within_reach(const kv_borrower& who);

private:
  struct owner {
    kv_borrower* who = nullptr; ///< null = free
    int32_t slot = 0;
    int32_t first = 0, count = 0; ///< of the run that the span is in
  };
  kv_memory(gpu::device& device, gpu::buffer buffer, uint64_t span_bytes, size_t spans);
  void survey();
  size_t index_of(const kv_borrower& who) const;
  std::optional<int32_t> room_for(int32_t count);
  std::optional<int32_t> free_run(int32_t count) const;
  std::optional<int32_t> emptiest_window(int32_t count) const;
  bool clear(int32_t window, int32_t count);
  void take(int32_t first, const owner& by);
  void move(int32_t from, int32_t to);

  gpu::device& device_;
  gpu::buffer buffer_;
  uint64_t span_bytes_;
  std::vector<owner> owners_;    ///< of each span
  std::vector<char> is_guarded_; ///< spans that are being cleared for a run
  uint64_t free_;
  uint64_t clock_ = 0;
  std::vector<kv_borrower*> borrowers_;
  std::vector<policies::kv_holding> holdings_; ///< as of `survey`
};

} // namespace troupe::engine
