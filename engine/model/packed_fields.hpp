#pragma once
#include <optional>

#include "engine/model/json_fields.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// Reads `quantization_config`; nothing if there is none. Failures, among them every way to
/// quantize that is not read, are recorded in `fields`.
std::optional<packed_config> read_packed(json_fields& fields, const std::string& origin);

} // namespace troupe::engine
