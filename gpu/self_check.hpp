#pragma once
#include "gpu/device.hpp"

namespace troupe::gpu {

/// Runs one small decoder layer on `device`, as a prompt and then as one more token, and compares
/// with the reference backend; where `wide` is `products::fastest`, also with a prompt of so many
/// rows that others multiply. Takes some milliseconds. Fails with errc::device_failed and the
/// difference: a device, driver or kernel that computes something else must not serve.
caf::error self_check(device& device, products wide = products::invariant);

} // namespace troupe::gpu
