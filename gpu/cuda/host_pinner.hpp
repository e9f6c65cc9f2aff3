#pragma once
#include "base/memory_pinner.hpp"

namespace troupe::gpu::cuda {

/// Registers host memory with CUDA, for all devices of the process.
class host_pinner final : public memory_pinner {
public:
  /// Calls go through device `ordinal`, which is in use anyway.
  explicit host_pinner(int ordinal) : ordinal_{ordinal} {}

  caf::error pin(std::span<std::byte> memory) override;
  void unpin(std::span<std::byte> memory) noexcept override;

private:
  const int ordinal_;
};

} // namespace troupe::gpu::cuda
