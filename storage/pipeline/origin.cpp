#include "storage/pipeline/origin.hpp"

#include "storage/store/arrival.hpp"

namespace troupe::storage {

namespace {

checksum key_of(const file_identity& identity) {
  static_assert(std::has_unique_object_representations_v<file_identity>);
  return checksum_of(std::as_bytes(std::span{&identity, 1}));
}

class disk_origin final : public chunk_origin {
public:
  disk_origin(disk_reader& reader, std::shared_ptr<const disk_file> file)
      : reader_{reader}, file_{std::move(file)} {}

  std::string name() const override { return file_->path().string(); }
  uint64_t size_bytes() const override { return file_->size_bytes(); }
  checksum key() const override { return key_of(file_->identity()); }
  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    reader_.read(file_, offset, into, std::move(done));
  }
  bool is_cached(uint64_t offset, uint64_t length) const override {
    return file_->is_cached(offset, length);
  }
  caf::error check_unchanged() const override { return file_->check_unchanged(); }

private:
  disk_reader& reader_;
  std::shared_ptr<const disk_file> file_;
};

class arriving_origin final : public chunk_origin {
public:
  arriving_origin(disk_reader& reader, std::shared_ptr<arrival> file)
      : reader_{reader}, arriving_{std::move(file)}, file_{arriving_->file()},
        key_{key_of(arriving_->identity())} {}

  std::string name() const override { return arriving_->place().string(); }
  uint64_t size_bytes() const override { return file_->size_bytes(); }
  checksum key() const override { return key_; }
  bool is_there(uint64_t offset, uint64_t length, std::function<void()> then) override {
    if (arriving_->has({offset, length}))
      return true;
    arriving_->when_there({offset, length},
                          [then = std::move(then)](const caf::error&) { then(); });
    return false;
  }
  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    arriving_->when_there({offset, into.size()},
                          [this, offset, into, done = std::move(done)](caf::error why) {
                            if (why)
                              done(std::move(why));
                            else
                              reader_.read(file_, offset, into, done);
                          });
  }
  // It is being written to; whoever writes tells when it is no longer this one.
  caf::error check_unchanged() const override { return {}; }

private:
  disk_reader& reader_;
  const std::shared_ptr<arrival> arriving_;
  const std::shared_ptr<const disk_file> file_;
  const checksum key_;
};

} // namespace

checksum key_of(const disk_file& file) { return key_of(file.identity()); }

std::shared_ptr<chunk_origin> make_arriving_origin(disk_reader& reader,
                                                   std::shared_ptr<arrival> file) {
  return std::make_shared<arriving_origin>(reader, std::move(file));
}

std::shared_ptr<chunk_origin> make_disk_origin(disk_reader& reader,
                                               std::shared_ptr<const disk_file> file) {
  return std::make_shared<disk_origin>(reader, std::move(file));
}

} // namespace troupe::storage
