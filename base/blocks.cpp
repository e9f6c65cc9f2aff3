#include "base/blocks.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "base/half.hpp"

namespace troupe {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr size_t block_elements_max = 256;

uint16_t load16(const uint8_t* from) {
  uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

uint32_t load32(const uint8_t* from) {
  uint32_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

float load_f16(const uint8_t* from) { return f16_to_float(load16(from)); }

/// 32 values of 4 bits, the low halves of 16 bytes before the high ones; `value(i, q)` makes one.
template <class Value>
void unpack_nibbles(const uint8_t* packed, float* out, Value value) {
  for (uint32_t i = 0; i < 16; ++i) {
    out[i] = value(i, packed[i] & 15);
    out[i + 16] = value(i + 16, packed[i] >> 4);
  }
}

void q4_0_block(const uint8_t* in, float* out) {
  const float d = load_f16(in);
  unpack_nibbles(in + 2, out, [d](uint32_t, int q) { return d * static_cast<float>(q - 8); });
}

void q4_1_block(const uint8_t* in, float* out) {
  const float d = load_f16(in);
  const float m = load_f16(in + 2);
  unpack_nibbles(in + 4, out, [d, m](uint32_t, int q) { return d * static_cast<float>(q) + m; });
}

/// The fifth bit of element `i` in its place.
int fifth_bit(uint32_t bits, uint32_t i) { return static_cast<int>((bits >> i) & 1u) << 4; }

void q5_0_block(const uint8_t* in, float* out) {
  const float d = load_f16(in);
  const uint32_t high = load32(in + 2);
  unpack_nibbles(in + 6, out, [d, high](uint32_t i, int q) {
    return d * static_cast<float>((q | fifth_bit(high, i)) - 16);
  });
}

void q5_1_block(const uint8_t* in, float* out) {
  const float d = load_f16(in);
  const float m = load_f16(in + 2);
  const uint32_t high = load32(in + 4);
  unpack_nibbles(in + 8, out, [d, m, high](uint32_t i, int q) {
    return d * static_cast<float>(q | fifth_bit(high, i)) + m;
  });
}

void q8_0_block(const uint8_t* in, float* out) {
  const float d = load_f16(in);
  for (size_t i = 0; i < 32; ++i)
    out[i] = static_cast<float>(static_cast<int8_t>(in[2 + i])) * d;
}

/// Those of a q4_k or q5_k block as floats.
struct group_scales {
  std::array<float, 8> scale;
  std::array<float, 8> minimum;
};

group_scales load_group_scales(const uint8_t* in) {
  const float d = load_f16(in);
  const float d_minimum = load_f16(in + 2);
  const auto packed = unpack_scales(in + 4);
  group_scales out;
  for (size_t j = 0; j < 8; ++j) {
    out.scale[j] = d * static_cast<float>(packed.scale[j]);
    out.minimum[j] = d_minimum * static_cast<float>(packed.minimum[j]);
  }
  return out;
}

void q4_k_block(const uint8_t* in, float* out) {
  const auto groups = load_group_scales(in);
  const uint8_t* packed = in + 16;
  for (size_t j = 0; j < 8; ++j)
    for (size_t i = 0; i < 32; ++i) {
      const int q = (packed[j / 2 * 32 + i] >> (j % 2 * 4)) & 15;
      out[j * 32 + i] = groups.scale[j] * static_cast<float>(q) - groups.minimum[j];
    }
}

void q5_k_block(const uint8_t* in, float* out) {
  const auto groups = load_group_scales(in);
  const uint8_t* high = in + 16;
  const uint8_t* packed = in + 48;
  for (size_t j = 0; j < 8; ++j)
    for (size_t i = 0; i < 32; ++i) {
      const int low = (packed[j / 2 * 32 + i] >> (j % 2 * 4)) & 15;
      const int q = low | ((high[i] >> j) & 1) << 4;
      out[j * 32 + i] = groups.scale[j] * static_cast<float>(q) - groups.minimum[j];
    }
}

void q6_k_block(const uint8_t* in, float* out) {
  const uint8_t* low = in;
  const uint8_t* high = in + 128;
  const uint8_t* scales = in + 192;
  const float d = load_f16(in + 208);
  for (size_t e = 0; e < 256; ++e) {
    const size_t half = e / 128; // 64 bytes of `low` and 32 of `high` each
    const size_t i = e % 128;
    const int nibble = (low[half * 64 + i % 64] >> (i / 64 * 4)) & 15;
    const int q = (nibble | ((high[half * 32 + i % 32] >> (i / 32 * 2)) & 3) << 4) - 32;
    const float scale = d * static_cast<float>(static_cast<int8_t>(scales[e / 16]));
    out[e] = scale * static_cast<float>(q);
  }
}

void f8_b128_block(const uint8_t* in, float* out) {
  const float scale = std::bit_cast<float>(load32(in));
  for (size_t i = 0; i < 128; ++i)
    out[i] = scale * f8_e4m3_to_float(in[4 + i]);
}

void one_block(dtype type, const uint8_t* in, float* out) {
  switch (type) {
  case dtype::f32:
    *out = std::bit_cast<float>(load32(in));
    return;
  case dtype::f16:
    *out = load_f16(in);
    return;
  case dtype::bf16:
    *out = bf16_to_float(load16(in));
    return;
  case dtype::q4_0:
    return q4_0_block(in, out);
  case dtype::q4_1:
    return q4_1_block(in, out);
  case dtype::q5_0:
    return q5_0_block(in, out);
  case dtype::q5_1:
    return q5_1_block(in, out);
  case dtype::q8_0:
    return q8_0_block(in, out);
  case dtype::q4_k:
    return q4_k_block(in, out);
  case dtype::q5_k:
    return q5_k_block(in, out);
  case dtype::q6_k:
    return q6_k_block(in, out);
  case dtype::f8_b128:
    return f8_b128_block(in, out);
  default:
    std::abort(); // a type that no weight has
  }
}

/// Number of blocks; a mismatch is our own bug and would write out of bounds.
size_t count_blocks(block_layout layout, size_t bytes, size_t elements) {
  const size_t count = bytes / layout.bytes;
  if (count * layout.bytes != bytes || count * layout.elements != elements)
    std::abort();
  return count;
}

} // namespace

packed_scales unpack_scales(const uint8_t* packed) {
  packed_scales out;
  for (size_t j = 0; j < 4; ++j) {
    // Groups 4..7 keep their low four bits in the last bytes, the upper two in the first ones.
    out.scale[j] = packed[j] & 63;
    out.minimum[j] = packed[j + 4] & 63;
    out.scale[j + 4] = static_cast<uint8_t>((packed[j + 8] & 15) | ((packed[j] >> 2) & 0x30));
    out.minimum[j + 4] = static_cast<uint8_t>((packed[j + 8] >> 4) | ((packed[j + 4] >> 2) & 0x30));
  }
  return out;
}

void decode_blocks(dtype type, std::span<const std::byte> blocks, std::span<float> out) {
  const auto layout = layout_of(type);
  const auto* in = reinterpret_cast<const uint8_t*>(blocks.data());
  const size_t count = count_blocks(layout, blocks.size(), out.size());
  for (size_t b = 0; b < count; ++b)
    one_block(type, in + b * layout.bytes, out.data() + b * layout.elements);
}

void decode_blocks_to_bf16(dtype type, std::span<const std::byte> blocks, std::span<uint16_t> out) {
  const auto layout = layout_of(type);
  const auto* in = reinterpret_cast<const uint8_t*>(blocks.data());
  const size_t count = count_blocks(layout, blocks.size(), out.size());
  std::array<float, block_elements_max> values;
  for (size_t b = 0; b < count; ++b) {
    one_block(type, in + b * layout.bytes, values.data());
    std::transform(values.begin(), values.begin() + layout.elements,
                   out.begin() + static_cast<ptrdiff_t>(b * layout.elements), float_to_bf16);
  }
}

} // namespace troupe
