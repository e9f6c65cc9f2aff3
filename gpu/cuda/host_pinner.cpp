#include "gpu/cuda/host_pinner.hpp"

#include <cuda_runtime.h>

#include "gpu/cuda/status.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu::cuda {

caf::error host_pinner::pin(std::span<std::byte> memory) {
  auto status = cudaSetDevice(ordinal_);
  if (status == cudaSuccess)
    status = cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable);
  if (status == cudaSuccess)
    return {};
  cudaGetLastError(); // no op of a device failed
  return caf::make_error(
      errc::unavailable,
      failure_text(status, "pinning " + std::to_string(memory.size()) + " bytes of host memory"));
}

void host_pinner::unpin(std::span<std::byte> memory) noexcept {
  cudaSetDevice(ordinal_);
  cudaHostUnregister(memory.data());
  cudaGetLastError();
}

} // namespace troupe::gpu::cuda
