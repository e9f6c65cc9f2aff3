#pragma once
#include "engine/gguf/source.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// What the metadata says about the decoder, checked as `parse_model_config` does; the tensors tell
/// which biases there are and whether the embedding is the head as well. Fails with invalid_config,
/// naming the key, or with unsupported. Keys: docs/gguf.md of the ggml project.
caf::expected<model_config> gguf_model_config(const gguf_source& source);

} // namespace troupe::engine
