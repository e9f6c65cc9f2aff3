#pragma once
#include <cstddef>
#include <cstdint>
#include <new>

namespace troupe::gpu::cpu {

/// Memory that grows to the largest size asked for and is used again by the next op. Contents are
/// lost when it grows.
class scratch {
public:
  scratch() = default;
  ~scratch() { release(); }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;

  /// At least `size_bytes`, aligned to 64 bytes.
  template <class T>
  T* get(size_t size_bytes) {
    if (size_bytes > size_bytes_) {
      release();
      data_ = ::operator new(size_bytes, alignment);
      size_bytes_ = size_bytes;
    }
    return static_cast<T*>(data_);
  }

private:
  static constexpr std::align_val_t alignment{64};
  void release() {
    if (data_ != nullptr)
      ::operator delete(data_, alignment);
    data_ = nullptr;
    size_bytes_ = 0;
  }
  void* data_ = nullptr;
  size_t size_bytes_ = 0;
};

} // namespace troupe::gpu::cpu
