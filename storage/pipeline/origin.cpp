#include "storage/pipeline/origin.hpp"

namespace troupe::storage {

namespace {

class disk_origin final : public chunk_origin {
public:
  disk_origin(disk_reader& reader, std::shared_ptr<const disk_file> file)
      : reader_{reader}, file_{std::move(file)} {}

  std::string name() const override { return file_->path().string(); }
  uint64_t size_bytes() const override { return file_->size_bytes(); }
  checksum key() const override {
    static_assert(std::has_unique_object_representations_v<file_identity>);
    return checksum_of(std::as_bytes(std::span{&file_->identity(), 1}));
  }
  void read(uint64_t offset, std::span<std::byte> into, read_done done) override {
    reader_.read(file_, offset, into, std::move(done));
  }
  caf::error check_unchanged() const override { return file_->check_unchanged(); }

private:
  disk_reader& reader_;
  std::shared_ptr<const disk_file> file_;
};

} // namespace

std::shared_ptr<chunk_origin> make_disk_origin(disk_reader& reader,
                                               std::shared_ptr<const disk_file> file) {
  return std::make_shared<disk_origin>(reader, std::move(file));
}

} // namespace troupe::storage
