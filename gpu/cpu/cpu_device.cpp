#include "gpu/device.hpp"

namespace troupe::gpu {

std::unique_ptr<device> make_cpu_device(const device_options&) { return make_reference_device(); }

} // namespace troupe::gpu
