#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.hpp"

/// What blocks of weights mean, plainly.
namespace troupe {

/// Turns blocks into floats, each product and sum rounded to float once, as the reference
/// implementation does (the Python package `gguf`, gguf.quants). f32, f16 and bf16 are taken too.
/// `blocks` holds whole blocks and `out` exactly as many elements as they do; both are asserted.
void decode_blocks(dtype type, std::span<const std::byte> blocks, std::span<float> out);

/// The same, rounded to bfloat16 (nearest even). Floats pass through a small buffer, so no second
/// copy of the tensor exists.
void decode_blocks_to_bf16(dtype type, std::span<const std::byte> blocks, std::span<uint16_t> out);

/// Scale and minimum, 6 bits each, of the eight groups of a q4_k or q5_k block.
struct packed_scales {
  uint8_t scale[8];
  uint8_t minimum[8];
};
/// `packed` = the 12 bytes that hold them.
packed_scales unpack_scales(const uint8_t* packed);

} // namespace troupe
