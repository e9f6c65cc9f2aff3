#pragma once
#include "engine/model/json_fields.hpp"
#include "engine/model/model_config.hpp"

namespace troupe::engine {

/// Reads the `quantization_config` of a checkpoint whose `quant_method` is fp8: 8-bit floats with a
/// scale for each block of `weight_block_size`, or one for all of a weight. Failures are recorded
/// in `inner`.
packed_config read_fp8(json_fields& inner);

/// The same for compressed-tensors, which llm-compressor writes. What `ignore` and the targets name
/// is for estimates: each weight's tensors say which form it has, if any. Activations are computed
/// with as they are, whatever is said of their rounding, and so are keys and values
/// (`kv_cache_scheme`). No forms: the file says nothing of weights.
packed_config read_compressed(json_fields& inner, const std::string& origin);

} // namespace troupe::engine
