#include "storage/pool/kept_mappings.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace troupe::storage {

file_mapping::file_mapping(file_mapping&& other) noexcept
    : data_{std::exchange(other.data_, nullptr)},
      size_bytes_{other.size_bytes_}, slots_{std::move(other.slots_)} {}

file_mapping& file_mapping::operator=(file_mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  slots_.swap(other.slots_);
  return *this;
}

file_mapping::~file_mapping() {
  if (data_ != nullptr)
    ::munmap(data_, size_bytes_);
}

size_t file_mapping::mapped() const {
  return slots_.size() - static_cast<size_t>(std::count(slots_.begin(), slots_.end(), no_slot));
}

std::optional<file_mapping> kept_mappings::take(const checksum& file, uint64_t size_bytes) {
  const std::lock_guard guard{mutex_};
  const auto at = std::find_if(kept_.begin(), kept_.end(), [&](const entry& x) {
    return x.file == file && x.mapping.size_bytes() == size_bytes;
  });
  if (at == kept_.end())
    return std::nullopt;
  auto out = std::move(at->mapping);
  kept_.erase(at);
  mapped_ -= out.mapped();
  return out;
}

void kept_mappings::keep(const checksum& file, file_mapping mapping) {
  std::list<entry> gone; // unmapped outside of the lock
  const std::lock_guard guard{mutex_};
  const auto chunks = mapping.mapped();
  if (chunks == 0 || chunks > chunks_max_)
    return;
  mapped_ += chunks;
  kept_.push_front({file, std::move(mapping)});
  while (mapped_ > chunks_max_) {
    mapped_ -= kept_.back().mapping.mapped();
    gone.splice(gone.end(), kept_, std::prev(kept_.end()));
  }
}

size_t kept_mappings::mapped() const {
  const std::lock_guard guard{mutex_};
  return mapped_;
}

} // namespace troupe::storage
