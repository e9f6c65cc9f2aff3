#pragma once
#include <memory>

#include "gpu/device.hpp"

namespace troupe::gpu::test {

/// `inner` for callers whose pointers are host pointers: every op copies what it reads to the
/// device, runs there, and copies what it wrote back. Buffers hold exactly what the op's contract
/// says is there. Aborts with the device's error if an op fails.
std::unique_ptr<device> make_staged_device(std::unique_ptr<device> inner);

} // namespace troupe::gpu::test
