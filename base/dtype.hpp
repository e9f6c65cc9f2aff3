#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace troupe {

/// Element types that a checkpoint or a device buffer may hold.
enum class dtype : uint8_t {
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  f64,
  f8_e4m3,
  f8_e5m2,
  // Blocks, most of them as GGUF has them; `bytes_of` knows their size, `size_of` does not.
  // base/blocks.hpp decodes them all; those that weights are quantized to are:
  q8_0, ///< f16 scale, 32 signed bytes: value = scale * byte
  q4_0, ///< f16 scale, 16 bytes: value = scale * (nibble - 8), low nibbles first
  // Those that only files have:
  q4_1, ///< f16 scale and minimum for 32 values of 4 bits: value = scale * nibble + minimum
  q5_0, ///< as q4_0 with 5 bits
  q5_1, ///< as q4_1 with 5 bits
  q4_k, ///< 256 values of 4 bits: every 32 have a scale and a minimum of 6 bits, in units of two
        ///< f16
  q5_k, ///< as q4_k with 5 bits
  q6_k, ///< 256 values of 6 bits: every 16 have a scale of 8 bits, in units of an f16
  // What becomes of 8-bit floats with scales:
  f8_b128, ///< f32 scale, 128 values of f8_e4m3, none of them NaN: value = scale * f8
};

/// Elements of a q8_0 or q4_0 block.
constexpr uint64_t block_elements = 32;

constexpr bool is_blocks(dtype type) { return type >= dtype::q8_0 && type <= dtype::f8_b128; }

/// How a type that comes in blocks is laid out; 1 element for every other type.
struct block_layout {
  uint32_t elements = 1;
  uint32_t bytes = 1;
};

/// Bytes of one element.
constexpr size_t size_of(dtype type) {
  switch (type) {
  case dtype::i64:
  case dtype::f64:
    return 8;
  case dtype::f32:
  case dtype::i32:
    return 4;
  case dtype::f16:
  case dtype::bf16:
  case dtype::i16:
    return 2;
  default:
    return 1;
  }
}

constexpr block_layout layout_of(dtype type) {
  switch (type) {
  case dtype::q8_0:
    return {32, 34};
  case dtype::q4_0:
    return {32, 18};
  case dtype::q4_1:
    return {32, 20};
  case dtype::q5_0:
    return {32, 22};
  case dtype::q5_1:
    return {32, 24};
  case dtype::q4_k:
    return {256, 144};
  case dtype::q5_k:
    return {256, 176};
  case dtype::q6_k:
    return {256, 210};
  case dtype::f8_b128:
    return {128, 132};
  default:
    return {1, static_cast<uint32_t>(size_of(type))};
  }
}

/// Bytes of `elements` elements, whole blocks where `type` comes in blocks.
constexpr uint64_t bytes_of(dtype type, uint64_t elements) {
  const auto layout = layout_of(type);
  return elements / layout.elements * layout.bytes;
}

constexpr std::string_view to_string(dtype type) {
  switch (type) {
  case dtype::f32:
    return "f32";
  case dtype::f16:
    return "f16";
  case dtype::bf16:
    return "bf16";
  case dtype::i64:
    return "i64";
  case dtype::i32:
    return "i32";
  case dtype::i16:
    return "i16";
  case dtype::i8:
    return "i8";
  case dtype::u8:
    return "u8";
  case dtype::boolean:
    return "bool";
  case dtype::f64:
    return "f64";
  case dtype::f8_e4m3:
    return "f8_e4m3";
  case dtype::f8_e5m2:
    return "f8_e5m2";
  case dtype::q8_0:
    return "q8_0";
  case dtype::q4_0:
    return "q4_0";
  case dtype::q4_1:
    return "q4_1";
  case dtype::q5_0:
    return "q5_0";
  case dtype::q5_1:
    return "q5_1";
  case dtype::q4_k:
    return "q4_k";
  case dtype::q5_k:
    return "q5_k";
  case dtype::q6_k:
    return "q6_k";
  case dtype::f8_b128:
    return "f8_b128";
  }
  return "?";
}

} // namespace troupe
