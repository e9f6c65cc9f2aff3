#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/dtype.hpp"

namespace troupe::storage {

/// The type that a GGUF file numbers `type`; nothing for one that is not read.
std::optional<dtype> ggml_dtype(uint32_t type);

/// What a GGUF file calls that number ("IQ2_XS"), also where it is not read; empty if unknown.
std::string_view ggml_type_name(uint32_t type);

/// Turns blocks into floats, each product and sum rounded to float once, as the reference
/// implementation does (the Python package `gguf`, gguf.quants). `blocks` holds whole blocks and
/// `out` exactly as many elements as they do; both are asserted.
void dequantize(dtype type, std::span<const std::byte> blocks, std::span<float> out);

/// The same, rounded to bfloat16 (nearest even). Floats pass through a small buffer, so no second
/// copy of the tensor exists.
void dequantize_to_bf16(dtype type, std::span<const std::byte> blocks, std::span<uint16_t> out);

} // namespace troupe::storage
