#pragma once
#include <memory>
#include <string>
#include <vector>

#include "gpu/device.hpp"

namespace troupe::actors {

/// A device that a worker is to own.
struct opened_device {
  std::string id; ///< "cpu", "cpu:1", "cuda:0"
  std::unique_ptr<gpu::device> device;
};

/// Opens what `names` ask for: "cpu" (all cores as one device), "cpu:N" (those of one NUMA node),
/// "numa" (every NUMA node, a device each), "cuda:N", "cuda" (every CUDA device), or "auto": every
/// CUDA device that passes its self-check, else the CPU; why one was left out is logged. A device
/// that is named and cannot be used is an error. Each device comes once.
caf::expected<std::vector<opened_device>> open_devices(const std::vector<std::string>& names,
                                                       const gpu::device_options& options);

} // namespace troupe::actors
