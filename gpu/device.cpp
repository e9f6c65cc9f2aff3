#include "gpu/device.hpp"

#include <utility>

namespace troupe::gpu {

buffer::~buffer() {
  if (data_ != nullptr)
    owner_->release(data_, size_bytes_);
}

void buffer::swap(buffer& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
}

} // namespace troupe::gpu
