#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "actors/messages.hpp"
#include "engine/engine.hpp"
#include "gpu/device.hpp"

namespace troupe::actors {

/// Makes the engines of a worker, on its own thread. They share one workspace, and borrow from one
/// KV memory of `kv_bytes`, which is there with the first of them. An engine outlives neither this,
/// nor the device, nor the files it points into. `twins` are the weights of the node's devices.
std::function<caf::expected<std::unique_ptr<engine::engine>>(const opened_model&)>
engines_on(std::shared_ptr<gpu::device> device, uint64_t kv_bytes,
           std::shared_ptr<engine::weight_twins> twins);

} // namespace troupe::actors
