#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>

#include "storage/pipeline/load_pipeline.hpp"
#include "tests/storage/pool/pool_fixture.hpp"

namespace troupe::storage::test {

/// A file in memory whose reads end when the test says so, or at once.
class scripted_origin final : public chunk_origin {
public:
  scripted_origin(uint64_t id, std::string content) : id_{id}, content_{std::move(content)} {}

  std::string name() const override { return "file " + std::to_string(id_); }
  uint64_t size_bytes() const override { return content_.size(); }
  checksum key() const override { return {id_, 77}; }
  caf::error check_unchanged() const override { return {}; }
  bool is_cached(uint64_t offset, uint64_t) const override { return cached.contains(offset); }
  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    std::unique_lock guard{mutex_};
    asked_.push_back(offset);
    held_.push_back({offset, into, std::move(done)});
    changed_.notify_all();
    if (open_)
      answer(guard, {});
  }

  std::set<uint64_t> cached; ///< offsets that are said to be in memory

  /// From now on reads end at once; those that wait do so now.
  void open() {
    std::unique_lock guard{mutex_};
    open_ = true;
    while (!held_.empty())
      answer(guard, {});
  }
  /// Ends the oldest read that waits, when there is one.
  void answer_one(caf::error why = {}) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [this] { return !held_.empty(); });
    answer(guard, std::move(why));
  }
  void wait_for_reads(size_t count) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return asked_.size() >= count; });
  }
  std::vector<uint64_t> asked() const {
    const std::lock_guard guard{mutex_};
    return asked_;
  }

private:
  struct held_read {
    uint64_t offset;
    std::span<std::byte> into;
    read_done done;
  };
  void answer(std::unique_lock<std::mutex>& guard, caf::error why) {
    auto one = std::move(held_.front());
    held_.pop_front();
    if (!why)
      std::memcpy(one.into.data(), content_.data() + one.offset, one.into.size());
    guard.unlock();
    one.done(std::move(why));
    guard.lock();
  }

  const uint64_t id_;
  const std::string content_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<held_read> held_;
  std::vector<uint64_t> asked_;
  bool open_ = false;
};

/// Collects what a load tells, and checks that it keeps to the rules.
class load_record {
public:
  load_events events(bool keep = false) {
    return {.chunk = [this, keep](loaded_chunk chunk) -> caf::error {
              const std::lock_guard guard{mutex_};
              EXPECT_FALSE(over_) << "a chunk after the end";
              const auto bytes = chunk.bytes.bytes();
              bytes_[{chunk.file, chunk.offset}] = {reinterpret_cast<const char*>(bytes.data()),
                                                    bytes.size()};
              if (keep)
                kept_.push_back(std::move(chunk.bytes));
              changed_.notify_all();
              return {};
            },
            .progress =
                [this](size_t ranges, uint64_t) {
                  const std::lock_guard guard{mutex_};
                  EXPECT_GE(ranges, ranges_);
                  ranges_ = ranges;
                  changed_.notify_all();
                },
            .done =
                [this](caf::error why) {
                  const std::lock_guard guard{mutex_};
                  EXPECT_FALSE(over_) << "the end came twice";
                  over_ = true;
                  why_ = std::move(why);
                  changed_.notify_all();
                }};
  }
  caf::error wait() {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [this] { return over_; });
    return why_;
  }
  void wait_for_ranges(size_t count) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return ranges_ >= count; });
  }
  void wait_for_chunks(size_t count) {
    std::unique_lock guard{mutex_};
    changed_.wait(guard, [&] { return bytes_.size() >= count; });
  }
  std::string file(uint32_t index) {
    const std::lock_guard guard{mutex_};
    std::string out;
    for (const auto& [where, bytes] : bytes_)
      if (where.first == index) {
        out.resize(std::max<size_t>(out.size(), where.second + bytes.size()));
        out.replace(where.second, bytes.size(), bytes);
      }
    return out;
  }
  void let_go() {
    std::vector<chunk_lease> leases;
    const std::lock_guard guard{mutex_};
    leases.swap(kept_);
  }
  size_t ranges() {
    const std::lock_guard guard{mutex_};
    return ranges_;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<uint32_t, uint64_t>, std::string> bytes_;
  std::vector<chunk_lease> kept_;
  size_t ranges_ = 0;
  bool over_ = false;
  caf::error why_;
};

inline std::string text_of(size_t length, uint64_t seed = 1) {
  const auto bytes = content_of({{seed, 0}, 0}, length);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace troupe::storage::test
