#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::storage {

/// Bytes of chunks that a load would bring, by where they lie now.
struct tier_survey {
  uint64_t disk = 0;   ///< to be read past the page cache
  uint64_t pool = 0;   ///< held already
  uint64_t paged = 0;  ///< to be read through the page cache
  uint64_t cached = 0; ///< in the page cache
};

/// What `pooled_weights::start` would find for these tensors, once loads before it have brought
/// `coming_bytes` into the pool. Reads no weights, and counts as no use of what the pool holds. If
/// the pool is the worse way, says what mapping would find.
tier_survey survey(weight_tiers& tiers, const checkpoint& files,
                   const std::vector<std::string>& names, uint64_t coming_bytes = 0);

/// The same for all tensors of files that are mapped.
tier_survey survey_mapped(const checkpoint& files);

} // namespace troupe::storage
