#include "gpu/cuda/status.hpp"
#include "gpu/device.hpp"
#include "gpu/errors.hpp"

namespace troupe::gpu {
namespace cuda {

std::string failure_text(cudaError_t status, const std::string& doing) {
  return doing + ": " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) + ")";
}

caf::error unavailable(cudaError_t status) {
  std::string what = failure_text(status, "looking for CUDA devices");
  if (status == cudaErrorNoDevice)
    what += "; this machine has none that the process may see (check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES), or use the device cpu";
  else if (status == cudaErrorInsufficientDriver)
    what += "; install an NVIDIA driver of version 580 or later, or use the device cpu";
  return caf::make_error(errc::unavailable, std::move(what));
}

} // namespace cuda

caf::expected<std::vector<cuda_device_info>> cuda_devices() {
  int count = 0;
  if (const auto status = cudaGetDeviceCount(&count); status != cudaSuccess)
    return cuda::unavailable(status);
  std::vector<cuda_device_info> out;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp found;
    if (const auto status = cudaGetDeviceProperties(&found, i); status != cudaSuccess)
      return cuda::unavailable(status);
    out.push_back(
        {i, found.name, found.totalGlobalMem, found.major, found.minor, found.multiProcessorCount});
  }
  return out;
}

} // namespace troupe::gpu
