#pragma once
#include <memory>

#include "engine/engine.hpp"
#include "storage/checkpoint.hpp"

namespace troupe::actors {

/// Looks tensors of `files` up by the names that they have there, for an engine. Blocks that no
/// device computes with are decoded to bf16 while they are read. `files` must outlive the lookup
/// and what it gives.
engine::weight_lookup weight_views(const storage::checkpoint& files);

} // namespace troupe::actors
