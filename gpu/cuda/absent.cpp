#include "gpu/cuda_probe.hpp"
#include "gpu/device.hpp"
#include "gpu/errors.hpp"

// Takes the place of the CUDA backend in builds without it.
namespace troupe::gpu {
namespace {

caf::error absent() {
  return caf::make_error(errc::unavailable, "this build of troupe has no CUDA backend; build with "
                                            "-DTROUPE_CUDA=ON, or use the device cpu");
}

} // namespace

caf::expected<std::vector<cuda_device_info>> cuda_devices() { return absent(); }

caf::expected<std::unique_ptr<device>> make_cuda_device(int, const device_options&) {
  return absent();
}

caf::expected<cuda_rates> measure_cuda(int, const cuda_probe_sizes&) { return absent(); }

} // namespace troupe::gpu
