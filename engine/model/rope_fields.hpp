#pragma once
#include <string>

#include "engine/model/json_fields.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// Reads the rotary embedding from config.json in any of its spellings: `rope_theta` beside
/// `rope_scaling` (with "type" or "rope_type"), or all of it inside `rope_parameters`. Failures are
/// recorded in `fields`.
rope_config read_rope(json_fields& fields, const std::string& origin, int64_t context_length,
                      int64_t head_dim);

} // namespace troupe::engine
