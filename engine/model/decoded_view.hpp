#pragma once
#include "engine/engine.hpp"

namespace troupe::engine {

/// A view in bf16 of the same tensor, a matrix whose rows are whole blocks: for devices that do not
/// take blocks of that type.
weight_view decoded(weight_view blocks);

} // namespace troupe::engine
