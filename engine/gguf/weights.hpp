#pragma once
#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// Looks tensors up by their Hugging Face names in a GGUF model, whose own names `by_gguf_name`
/// knows. Models of the llama architecture have the rows of q and k in the order that suits a
/// rotation of neighbours; they are put back into the order that suits one of halves.
weight_lookup gguf_weights(const model_config& config, weight_lookup by_gguf_name);

} // namespace troupe::engine
