#include "gpu/device.hpp"

#include <utility>

#include "gpu/errors.hpp"

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

std::string to_string(errc code) {
  switch (code) {
  case errc::out_of_memory:
    return "out_of_memory";
  }
  return "unknown";
}

} // namespace troupe::gpu
