#include "storage/pipeline/source_origin.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

checksum key_of(const source& from, const source_file& file) {
  static std::atomic<uint64_t> unversioned{0};
  const auto version =
      file.version.empty() ? "origin " + std::to_string(++unversioned) : file.version;
  std::string text;
  // Lengths in between: no two different files may spell the same text.
  for (const auto& part : {from.name(), file.path, version, std::to_string(file.size_bytes)})
    text += std::to_string(part.size()) + ":" + part;
  return checksum_of(std::as_bytes(std::span{text}));
}

class source_origin final : public chunk_origin,
                            public std::enable_shared_from_this<source_origin> {
public:
  source_origin(job_threads& threads, std::shared_ptr<source> from, source_file file)
      : threads_{threads}, from_{std::move(from)}, file_{std::move(file)}, key_{key_of(*from_,
                                                                                       file_)} {}

  std::string name() const override { return from_->name() + "/" + file_.path; }
  uint64_t size_bytes() const override { return file_.size_bytes; }
  checksum key() const override { return key_; }
  // Every read is checked against the version already.
  caf::error check_unchanged() const override { return {}; }
  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    threads_.post([self = shared_from_this(), offset, into, done = std::move(done)] {
      done(self->from_->read(self->file_, offset, into));
    });
  }

private:
  job_threads& threads_;
  const std::shared_ptr<source> from_;
  const source_file file_;
  const checksum key_;
};

class joint_origin final : public chunk_origin, public std::enable_shared_from_this<joint_origin> {
public:
  explicit joint_origin(std::vector<std::shared_ptr<chunk_origin>> origins) {
    for (auto& one : origins)
      members_.push_back({std::move(one)});
  }

  std::string name() const override { return members_.front().origin->name(); }
  uint64_t size_bytes() const override { return members_.front().origin->size_bytes(); }
  checksum key() const override { return members_.front().origin->key(); }
  caf::error check_unchanged() const override { return members_.front().origin->check_unchanged(); }

  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    size_t chosen = 0;
    {
      const std::lock_guard guard{mutex_};
      chosen = choose(static_cast<double>(into.size()));
      auto& member = members_[chosen];
      if (member.owed == 0)
        member.since = std::chrono::steady_clock::now();
      member.owed += static_cast<double>(into.size());
    }
    members_[chosen].origin->read(
        offset, into,
        [self = shared_from_this(), chosen, offset, into, done = std::move(done)](caf::error why) {
          if (self->ended(chosen, static_cast<double>(into.size()), !why))
            done(std::move(why));
          else
            self->read(offset, into, done);
        });
  }

private:
  struct member {
    std::shared_ptr<chunk_origin> origin;
    bool lost = false;
    double owed = 0;               ///< bytes asked for that have not come
    double bytes = 0, seconds = 0; ///< delivered, while something was owed
    std::chrono::steady_clock::time_point since{};
  };

  /// The member that would end a read of so many bytes first. One that has delivered nothing yet is
  /// taken for as fast as the fastest, so that everyone is tried. With the mutex held.
  size_t choose(double bytes) const {
    double fastest = 1;
    for (const auto& x : members_)
      if (x.seconds > 0)
        fastest = std::max(fastest, x.bytes / x.seconds);
    size_t best = members_.size();
    double best_seconds = 0;
    for (size_t i = 0; i < members_.size(); ++i) {
      const auto& x = members_[i];
      const auto rate = x.bytes > 0 ? x.bytes / x.seconds : fastest;
      const auto seconds = (x.owed + bytes) / rate;
      if (!x.lost && (best == members_.size() || seconds < best_seconds))
        best = i, best_seconds = seconds;
    }
    return best == members_.size() ? 0 : best; // all are lost: the first says why
  }

  /// False if the read shall be tried elsewhere.
  bool ended(size_t index, double bytes, bool well) {
    const std::lock_guard guard{mutex_};
    auto& x = members_[index];
    const auto now = std::chrono::steady_clock::now();
    x.owed -= bytes;
    if (well) {
      x.bytes += bytes;
      x.seconds +=
          std::max(std::chrono::duration<double>(now - std::exchange(x.since, now)).count(), 1e-9);
      return true;
    }
    x.lost = true;
    return std::all_of(members_.begin(), members_.end(),
                       [](const member& one) { return one.lost; });
  }

  std::mutex mutex_;
  std::vector<member> members_;
};

} // namespace

std::shared_ptr<chunk_origin> make_source_origin(job_threads& threads, std::shared_ptr<source> from,
                                                 source_file file) {
  return std::make_shared<source_origin>(threads, std::move(from), std::move(file));
}

std::shared_ptr<chunk_origin>
make_joint_origin(std::vector<std::shared_ptr<chunk_origin>> origins) {
  return std::make_shared<joint_origin>(std::move(origins));
}

} // namespace troupe::storage
