#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace troupe::storage {

/// Element types of GGUF tensors that can be read; the numbers are those in the file.
enum class ggml_type : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

/// How a type lays out its elements: blocks of `elements` values in `bytes` bytes.
struct ggml_layout {
  std::string_view name;
  uint32_t elements = 1;
  uint32_t bytes = 1;
};

/// The layout of a type as numbered in a file; nothing for a type that is not read.
std::optional<ggml_layout> ggml_layout_of(uint32_t type);

/// Turns blocks into floats, each product and sum rounded to float once, as the reference
/// implementation does (the Python package `gguf`, gguf.quants). `blocks` holds whole blocks and
/// `out` exactly as many elements as they do; both are asserted.
void dequantize(ggml_type type, std::span<const std::byte> blocks, std::span<float> out);

/// The same, rounded to bfloat16 (nearest even). Floats pass through a small buffer, so no second
/// copy of the tensor exists.
void dequantize_to_bf16(ggml_type type, std::span<const std::byte> blocks, std::span<uint16_t> out);

} // namespace troupe::storage
