#pragma once
#include "gpu/kernels/device_math.cuh"

/// How kernels read weights in blocks: eight neighbours at a time, which lie in one group of 32 and
/// are the share of one of four threads. `base/blocks.hpp` says what the bytes mean. Weights in
/// blocks begin at a multiple of 16, as `device::allocate` gives memory; each load here asks for no
/// more than the block's own size then guarantees.
namespace troupe::gpu::kernels {

/// value = scale * q + offset, with whole numbers q.
struct eight {
  float scale = 0;
  float offset = 0;
  float q[8] = {};

  /// Product and sum each rounded once, as in `decode_blocks`.
  __device__ float value(int i) const { return rounded_sum(rounded_product(scale, q[i]), offset); }
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

/// Bits [shift, shift + count) of byte `i`.
template <int count>
__device__ unsigned bits_of(uint2 bytes, int i, int shift) {
  return (i < 4 ? bytes.x : bytes.y) >> (i % 4 * 8 + shift) & ((1u << count) - 1);
}

/// q from the nibbles of eight bytes, less `zero`.
__device__ inline void take_nibbles(eight& to, uint2 bytes, int shift, float zero) {
  for (int i = 0; i < 8; ++i)
    to.q[i] = static_cast<float>(bits_of<4>(bytes, i, shift)) - zero;
}

/// The same with a fifth bit each: bit `shift_high` of the bytes in `high`.
__device__ inline void take_five_bits(eight& to, uint2 bytes, int shift, uint2 high,
                                      int shift_high) {
  for (int i = 0; i < 8; ++i)
    to.q[i] =
        static_cast<float>(bits_of<4>(bytes, i, shift) | bits_of<1>(high, i, shift_high) << 4);
}

/// The same where the fifth bits are those of one byte.
__device__ inline void take_five_bits(eight& to, uint2 bytes, int shift, unsigned high,
                                      float zero) {
  for (int i = 0; i < 8; ++i)
    to.q[i] = static_cast<float>(bits_of<4>(bytes, i, shift) | (high >> i & 1) << 4) - zero;
}

/// read(block, group, t): elements 8t .. 8t + 7 of a block's group of 32.
template <dtype type>
struct block_format;

template <>
struct block_format<dtype::q8_0> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    eight out{load_f16(block)};
    const uint2 bytes = load_bytes<2>(block + 2 + t * 8);
    for (int i = 0; i < 8; ++i)
      out.q[i] = static_cast<float>(static_cast<int8_t>(bits_of<8>(bytes, i, 0)));
    return out;
  }
};

// In blocks of 32 the low nibbles are elements 0 to 15, the high ones the others.

template <>
struct block_format<dtype::q4_0> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    eight out{load_f16(block)};
    take_nibbles(out, load_bytes<2>(block + 2 + t % 2 * 8), t / 2 * 4, 8);
    return out;
  }
};

template <>
struct block_format<dtype::q4_1> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    eight out{load_f16(block), load_f16(block + 2)};
    take_nibbles(out, load_bytes<4>(block + 4 + t % 2 * 8), t / 2 * 4, 0);
    return out;
  }
};

template <>
struct block_format<dtype::q5_0> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    eight out{load_f16(block)};
    take_five_bits(out, load_bytes<2>(block + 6 + t % 2 * 8), t / 2 * 4, block[2 + t], 16);
    return out;
  }
};

template <>
struct block_format<dtype::q5_1> {
  __device__ static eight read(const unsigned char* block, int, int t) {
    eight out{load_f16(block), load_f16(block + 2)};
    take_five_bits(out, load_bytes<8>(block + 8 + t % 2 * 8), t / 2 * 4, block[4 + t], 0);
    return out;
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
    take_nibbles(out, load_bytes<8>(block + 16 + group / 2 * 32 + t * 8), group % 2 * 4, 0);
    return out;
  }
};

template <>
struct block_format<dtype::q5_k> {
  __device__ static eight read(const unsigned char* block, int group, int t) {
    eight out = group_of(block, group);
    take_five_bits(out, load_bytes<8>(block + 48 + group / 2 * 32 + t * 8), group % 2 * 4,
                   load_bytes<8>(block + 16 + t * 8), group);
    return out;
  }
};

/// Halves of 128 elements: 64 bytes of low nibbles, 32 of high pairs of bits, 8 scales each.
template <>
struct block_format<dtype::q6_k> {
  __device__ static eight read(const unsigned char* block, int group, int t) {
    const int half = group / 4, quarter = group % 4;
    const auto step = static_cast<int8_t>(block[192 + group * 2 + t / 2]);
    eight out{load_f16(block + 208) * static_cast<float>(step)};
    const uint2 low = load_bytes<2>(block + half * 64 + quarter % 2 * 32 + t * 8);
    const uint2 high = load_bytes<2>(block + 128 + half * 32 + t * 8);
    for (int i = 0; i < 8; ++i)
      out.q[i] = static_cast<float>(bits_of<4>(low, i, quarter / 2 * 4) |
                                    bits_of<2>(high, i, quarter * 2) << 4) -
                 32;
    return out;
  }
};

/// Whether values have an offset at all.
constexpr bool has_offset(dtype type) {
  return type == dtype::q4_1 || type == dtype::q5_1 || type == dtype::q4_k || type == dtype::q5_k;
}

/// Elements first .. first + 7 of rows in blocks; `first` is a multiple of eight.
template <dtype type>
__device__ eight load_eight(const void* data, int64_t first) {
  constexpr int64_t elements = layout_of(type).elements, bytes = layout_of(type).bytes;
  const auto at = static_cast<int>(first % elements);
  return block_format<type>::read(
      static_cast<const unsigned char*>(data) + first / elements * bytes, at / 32, at % 32 / 8);
}

/// The same for a type that is known only at run time.
__device__ inline eight load_eight(const void* data, dtype type, int64_t first) {
  switch (type) {
  case dtype::q4_0:
    return load_eight<dtype::q4_0>(data, first);
  case dtype::q4_1:
    return load_eight<dtype::q4_1>(data, first);
  case dtype::q5_0:
    return load_eight<dtype::q5_0>(data, first);
  case dtype::q5_1:
    return load_eight<dtype::q5_1>(data, first);
  case dtype::q4_k:
    return load_eight<dtype::q4_k>(data, first);
  case dtype::q5_k:
    return load_eight<dtype::q5_k>(data, first);
  case dtype::q6_k:
    return load_eight<dtype::q6_k>(data, first);
  default:
    return load_eight<dtype::q8_0>(data, first);
  }
}

} // namespace troupe::gpu::kernels
