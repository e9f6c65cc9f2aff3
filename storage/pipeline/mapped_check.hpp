#pragma once
#include <functional>

#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::storage {

/// Brings the mapped bytes of a checkpoint into memory, as `checkpoint::warm` does and with its
/// kind of progress, and verifies every chunk that holds a part of a tensor on the way. Uses the
/// calling thread and one more; `progress` is called on the calling one. Fails with `corrupted`,
/// `changed` or `cancelled`.
caf::error warm_verified(const weight_tiers& tiers, const checkpoint& files,
                         const std::function<bool(uint64_t done, uint64_t total)>& progress);

} // namespace troupe::storage
