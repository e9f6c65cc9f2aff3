#pragma once
#include "engine/tokenizer/json_fields.hpp"

namespace troupe::engine {

/// Fails when a known field of a tokenizer.json, at whatever depth, has a value of another type
/// than the format gives it (null stands for an absent field). `json_fields` then only meets right
/// types.
caf::error check_field_types(json_fields::element root, const std::string& origin);

} // namespace troupe::engine
