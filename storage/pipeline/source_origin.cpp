#include "storage/pipeline/source_origin.hpp"

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include "storage/errors.hpp"
#include "storage/sources/delivery_shares.hpp"

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
  explicit joint_origin(std::vector<std::shared_ptr<chunk_origin>> origins)
      : members_{std::move(origins)}, shares_{members_.size()} {}

  std::string name() const override { return members_.front()->name(); }
  uint64_t size_bytes() const override { return members_.front()->size_bytes(); }
  checksum key() const override { return members_.front()->key(); }
  caf::error check_unchanged() const override { return members_.front()->check_unchanged(); }

  bool is_cached(uint64_t offset, uint64_t length) const override {
    return who_has(offset, length).has_value();
  }

  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    const auto bytes = static_cast<double>(into.size());
    if (const auto here = who_has(offset, into.size()))
      return read_here(*here, offset, into, std::move(done));
    size_t chosen = 0;
    {
      const std::lock_guard guard{mutex_};
      chosen = shares_.choose(bytes).value_or(0); // all are lost: the first says why
      shares_.owe(chosen, bytes, delivery_shares::clock::now());
    }
    members_[chosen]->read(
        offset, into,
        [self = shared_from_this(), chosen, offset, into, done = std::move(done)](caf::error why) {
          if (self->ended(chosen, static_cast<double>(into.size()), !why))
            done(std::move(why));
          else
            self->read(offset, into, done);
        });
  }

private:
  /// Who has a range in this machine's memory.
  std::optional<size_t> who_has(uint64_t offset, uint64_t length) const {
    for (size_t i = 0; i < members_.size(); ++i) {
      const auto is_lost = [&] {
        const std::lock_guard guard{mutex_};
        return shares_.is_lost(i);
      };
      if (members_[i]->is_cached(offset, length) && !is_lost())
        return i;
    }
    return std::nullopt;
  }
  /// Says nothing about what the member delivers otherwise.
  void read_here(size_t index, uint64_t offset, std::span<std::byte> into, read_done done) {
    members_[index]->read(
        offset, into,
        [self = shared_from_this(), index, offset, into, done = std::move(done)](caf::error why) {
          if (!why || self->lose(index))
            done(std::move(why));
          else
            self->read(offset, into, done);
        });
  }
  /// True if nobody is left.
  bool lose(size_t index) {
    const std::lock_guard guard{mutex_};
    shares_.lose(index);
    return shares_.all_lost();
  }
  /// False if the read shall be tried elsewhere.
  bool ended(size_t index, double bytes, bool well) {
    const std::lock_guard guard{mutex_};
    if (well) {
      shares_.came(index, bytes, delivery_shares::clock::now());
      return true;
    }
    shares_.forgive(index, bytes);
    shares_.lose(index);
    return shares_.all_lost();
  }

  const std::vector<std::shared_ptr<chunk_origin>> members_;
  mutable std::mutex mutex_;
  delivery_shares shares_;
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
