#pragma once
#include "gpu/kernels/device_math.cuh"
#include "gpu/rounded.hpp"

/// How kernels read weights in blocks: eight neighbours at a time, which lie in one group of 32 and
/// are the share of one of four threads. `base/blocks.hpp` says what the bytes mean. Weights in
/// blocks begin at a multiple of 16, as `device::allocate` gives memory; each load here asks for no
/// more than the block's own size then guarantees.
namespace troupe::gpu::kernels {

/// value = scale * (q - zero) + offset, with whole numbers q from 0 on, a byte each.
struct eight {
  float scale = 0;
  float offset = 0;
  float zero = 0;
  uint2 q = {0, 0};

  __device__ float number(int i) const {
    return static_cast<float>((i < 4 ? q.x : q.y) >> i % 4 * 8 & 0xff);
  }
  /// Product and sum each rounded once, as in `decode_blocks`.
  __device__ float value(int i) const { return sum(product(scale, number(i) - zero), offset); }
  /// The same with one rounding, for a type that has either a zero, a power of two, or an offset.
  __device__ float fused_value(int i) const {
    return fmaf(scale, number(i), fmaf(-zero, scale, offset));
  }
};

/// value = scale * number, the numbers 8-bit floats, a byte each.
struct eight_f8 {
  float scale = 0;
  uint2 codes = {0, 0};

  __device__ float number(int i) const {
    const uint32_t code = (i < 4 ? codes.x : codes.y) >> i % 4 * 8;
    // As f16 its exponent is eight too small.
    return f16_value(static_cast<uint16_t>((code & 0x80) << 8 | (code & 0x7f) << 7)) * 256.0f;
  }
  __device__ float value(int i) const { return product(scale, number(i)); }
  __device__ float fused_value(int i) const { return value(i); }
};

__device__ inline uint16_t load_u16(const unsigned char* from) {
  return *reinterpret_cast<const uint16_t*>(from);
}
__device__ inline uint32_t load_u32(const unsigned char* from) {
  return *reinterpret_cast<const uint32_t*>(from);
}
__device__ inline float load_f16(const unsigned char* from) { return f16_value(load_u16(from)); }

/// Eight bytes at a multiple of `alignment`.
template <int alignment>
__device__ uint2 load_bytes(const unsigned char* from) {
  if constexpr (alignment == 8)
    return *reinterpret_cast<const uint2*>(from);
  else if constexpr (alignment == 4)
    return {load_u32(from), load_u32(from + 4)};
  else
    return {load_u16(from) | static_cast<uint32_t>(load_u16(from + 2)) << 16,
            load_u16(from + 4) | static_cast<uint32_t>(load_u16(from + 6)) << 16};
}

/// Bits [shift, shift + count) of each byte.
template <int count>
__device__ uint2 bits_of(uint2 bytes, int shift) {
  constexpr uint32_t mask = ((1u << count) - 1) * 0x01010101u;
  return {bytes.x >> shift & mask, bytes.y >> shift & mask};
}

__device__ inline uint2 joined(uint2 low, uint2 high) {
  return {low.x | high.x << 4, low.y | high.y << 4};
}

/// The bits of one byte, each in a byte of its own: the factor moves bit i of four by 7 i.
__device__ inline uint2 spread(unsigned bits) {
  constexpr uint32_t factor = 0x00204081u, mask = 0x01010101u;
  return {(bits & 15) * factor & mask, (bits >> 4) * factor & mask};
}

/// read(block, group, t): elements 8t .. 8t + 7 of a block's group of 32.
template <dtype type>
struct block_format;

template <>
struct block_format<dtype::q8_0> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    const uint2 bytes = load_bytes<2>(block + 2 + t * 8);
    constexpr uint32_t signs = 0x80808080u; // turned over, -128 is 0
    return {load_f16(block), 0, 128, {bytes.x ^ signs, bytes.y ^ signs}};
  }
};

// In blocks of 32 the low nibbles are elements 0 to 15, the high ones the others.

template <>
struct block_format<dtype::q4_0> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    const uint2 bytes = load_bytes<2>(block + 2 + t % 2 * 8);
    return {load_f16(block), 0, 8, bits_of<4>(bytes, t / 2 * 4)};
  }
};

template <>
struct block_format<dtype::q4_1> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    const uint2 bytes = load_bytes<4>(block + 4 + t % 2 * 8);
    return {load_f16(block), load_f16(block + 2), 0, bits_of<4>(bytes, t / 2 * 4)};
  }
};

template <>
struct block_format<dtype::q5_0> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    const uint2 low = bits_of<4>(load_bytes<2>(block + 6 + t % 2 * 8), t / 2 * 4);
    return {load_f16(block), 0, 16, joined(low, spread(block[2 + t]))};
  }
};

template <>
struct block_format<dtype::q5_1> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    const uint2 low = bits_of<4>(load_bytes<8>(block + 8 + t % 2 * 8), t / 2 * 4);
    return {load_f16(block), load_f16(block + 2), 0, joined(low, spread(block[4 + t]))};
  }
};

/// Scale and offset of one group of a q4_k or q5_k block, whose first 16 bytes hold all of them:
/// two f16 units, then 6 bits each, those of the last four groups in two pieces.
__device__ inline eight group_of(const unsigned char* block, int group) {
  const uint4 head = *reinterpret_cast<const uint4*>(block);
  const int shift = group % 4 * 8;
  const unsigned a = head.y >> shift, b = head.z >> shift, c = head.w >> shift;
  const bool first = group < 4;
  const unsigned scale = first ? a & 63 : (c & 15) | (a >> 2 & 0x30);
  const unsigned minimum = first ? b & 63 : (c >> 4 & 15) | (b >> 2 & 0x30);
  return {f16_value(static_cast<uint16_t>(head.x)) * static_cast<float>(scale),
          -(f16_value(static_cast<uint16_t>(head.x >> 16)) * static_cast<float>(minimum))};
}

template <>
struct block_format<dtype::q4_k> {
  __device__ static eight read(const unsigned char* block, int group, int t) {
    eight out = group_of(block, group);
    out.q = bits_of<4>(load_bytes<8>(block + 16 + group / 2 * 32 + t * 8), group % 2 * 4);
    return out;
  }
};

template <>
struct block_format<dtype::q5_k> {
  __device__ static eight read(const unsigned char* block, int group, int t) {
    eight out = group_of(block, group);
    const uint2 low = load_bytes<8>(block + 48 + group / 2 * 32 + t * 8);
    const uint2 high = load_bytes<8>(block + 16 + t * 8);
    out.q = joined(bits_of<4>(low, group % 2 * 4), bits_of<1>(high, group));
    return out;
  }
};

/// Halves of 128 elements: 64 bytes of low nibbles, 32 of high pairs of bits, 8 scales each.
template <>
struct block_format<dtype::q6_k> {
  __device__ static eight read(const unsigned char* block, int group, int t) {
    const int half = group / 4, quarter = group % 4;
    const auto step = static_cast<int8_t>(block[192 + group * 2 + t / 2]);
    const uint2 low = load_bytes<2>(block + half * 64 + quarter % 2 * 32 + t * 8);
    const uint2 high = load_bytes<2>(block + 128 + half * 32 + t * 8);
    return {load_f16(block + 208) * static_cast<float>(step), 0, 32,
            joined(bits_of<4>(low, quarter / 2 * 4), bits_of<2>(high, quarter * 2))};
  }
};

template <>
struct block_format<dtype::f8_b128> {
  __device__ static eight_f8 read(const unsigned char* block, int group, int t) {
    return {*reinterpret_cast<const float*>(block), load_bytes<4>(block + 4 + group * 32 + t * 8)};
  }
};

/// Elements first .. first + 7 of rows in blocks; `first` is a multiple of eight.
template <dtype type>
__device__ auto load_eight(const void* data, int64_t first) {
  constexpr int64_t elements = layout_of(type).elements, bytes = layout_of(type).bytes;
  const auto at = static_cast<int>(first % elements);
  return block_format<type>::read(
      static_cast<const unsigned char*>(data) + first / elements * bytes, at / 32, at % 32 / 8);
}

struct eight_values {
  float value[8];
};

template <dtype type>
__device__ eight_values values_of_eight(const void* data, int64_t first) {
  const auto from = load_eight<type>(data, first);
  eight_values out;
  for (int i = 0; i < 8; ++i)
    out.value[i] = from.value(i);
  return out;
}

/// The values of those eight, of a type that is known only at run time.
__device__ inline eight_values values_of_eight(const void* data, dtype type, int64_t first) {
  switch (type) {
  case dtype::q4_0:
    return values_of_eight<dtype::q4_0>(data, first);
  case dtype::q4_1:
    return values_of_eight<dtype::q4_1>(data, first);
  case dtype::q5_0:
    return values_of_eight<dtype::q5_0>(data, first);
  case dtype::q5_1:
    return values_of_eight<dtype::q5_1>(data, first);
  case dtype::q4_k:
    return values_of_eight<dtype::q4_k>(data, first);
  case dtype::q5_k:
    return values_of_eight<dtype::q5_k>(data, first);
  case dtype::q6_k:
    return values_of_eight<dtype::q6_k>(data, first);
  case dtype::f8_b128:
    return values_of_eight<dtype::f8_b128>(data, first);
  default:
    return values_of_eight<dtype::q8_0>(data, first);
  }
}

} // namespace troupe::gpu::kernels
