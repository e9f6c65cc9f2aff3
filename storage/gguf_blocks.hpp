#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.hpp"

namespace troupe::storage {

/// The type that a GGUF file numbers `type`; nothing for one that is not read.
std::optional<dtype> ggml_dtype(uint32_t type);

/// What a GGUF file calls that number ("IQ2_XS"), also where it is not read; empty if unknown.
std::string_view ggml_type_name(uint32_t type);

} // namespace troupe::storage
