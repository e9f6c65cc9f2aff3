#include "gpu/cpu/panels.hpp"

#include <cstring>

#include "base/blocks.hpp"
#include "gpu/cpu/element.hpp"
#include "gpu/cpu/kernels.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr int64_t group_bytes = 4;
constexpr int64_t line_bytes = panel_rows * group_bytes;
constexpr int64_t f16_line = panel_rows * 2;
constexpr int size = static_cast<int>(block_elements);
constexpr int body_bytes_max = 2 * size;

/// How a type lies in panels.
struct form {
  int64_t unit;       ///< blocks of 32 elements that share a head
  int64_t head_bytes; ///< of one row
  int64_t body_bytes; ///< of 32 elements of one row
};

form form_of(dtype type) {
  switch (type) {
  case dtype::q8_0:
    return {1, 2, 32};
  case dtype::q4_0:
    return {1, 2, 16};
  case dtype::q4_1:
    return {1, 4, 16};
  case dtype::q5_0:
    return {1, 2, 20};
  case dtype::q5_1:
    return {1, 4, 20};
  case dtype::q4_k:
    return {8, 16, 16};
  case dtype::q5_k:
    return {8, 16, 20};
  case dtype::q6_k:
    return {8, 18, 24};
  default:
    return {1, 0, 2 * size};
  }
}

int64_t heads_bytes(const form& f, int64_t blocks) {
  return blocks / f.unit * f.head_bytes * panel_rows;
}

// Where the parts of a file's block begin.
constexpr int64_t q4_k_values = 16, q5_k_fifths = 16, q5_k_values = 48;
constexpr int64_t q6_k_upper = 128, q6_k_scales = 192, q6_k_unit = 208;

/// Of a head of q4_k or q5_k.
constexpr int64_t low_bits_at = 2 * f16_line, high_bits_at = low_bits_at + 8 * panel_rows;

void pack_scales_of_k(const unsigned char* from, int64_t row, unsigned char* head) {
  std::memcpy(head + row * 2, from, 2);
  std::memcpy(head + f16_line + row * 2, from + 2, 2);
  const auto packed = unpack_scales(from + 4);
  unsigned char* low = head + low_bits_at + row;
  unsigned char* high = head + high_bits_at + row;
  for (int j = 0; j < 8; ++j)
    low[j * panel_rows] =
        static_cast<unsigned char>((packed.scale[j] & 15) | (packed.minimum[j] & 15) << 4);
  const auto upper = [&](int j) { return packed.scale[j] >> 4 | (packed.minimum[j] >> 4) << 2; };
  for (int j = 0; j < 8; j += 2)
    high[j / 2 * panel_rows] = static_cast<unsigned char>(upper(j) | upper(j + 1) << 4);
}

/// The head of a row's unit, from the file's blocks of it.
void pack_head(dtype type, const unsigned char* from, int64_t row, unsigned char* head) {
  switch (type) {
  case dtype::q4_1:
  case dtype::q5_1:
    std::memcpy(head + f16_line + row * 2, from + 2, 2);
    [[fallthrough]];
  case dtype::q8_0:
  case dtype::q4_0:
  case dtype::q5_0:
    std::memcpy(head + row * 2, from, 2);
    return;
  case dtype::q4_k:
  case dtype::q5_k:
    return pack_scales_of_k(from, row, head);
  case dtype::q6_k:
    std::memcpy(head + row * 2, from + q6_k_unit, 2);
    for (int i = 0; i < 16; ++i)
      head[f16_line + i * panel_rows + row] = from[q6_k_scales + i];
    return;
  default:
    return; // bf16 has none
  }
}

/// Fifth bits, one in each byte of `bits` at place `shift`, as a group.
void gather_fifths(const unsigned char* bits, int shift, unsigned char* out) {
  for (int t = 0; t < 4; ++t) {
    int byte = 0;
    for (int g = 0; g < 8; ++g)
      byte |= (bits[4 * g + t] >> shift & 1) << g;
    out[t] = static_cast<unsigned char>(byte);
  }
}

/// The same of 32 bits, one for each element.
void gather_fifths_of_word(const unsigned char* word, unsigned char* out) {
  unsigned char bits[size];
  for (int i = 0; i < size; ++i)
    bits[i] = static_cast<unsigned char>(word[i / 8] >> i % 8 & 1);
  gather_fifths(bits, 0, out);
}

/// Nibbles of 32 bytes at place `shift`, the second sixteen above the first.
void gather_nibbles(const unsigned char* from, int shift, unsigned char* out) {
  for (int i = 0; i < size / 2; ++i)
    out[i] = static_cast<unsigned char>((from[i] >> shift & 15) | (from[i + size / 2] >> shift & 15)
                                                                      << 4);
}

void pack_six_bits(const unsigned char* from, int64_t block, unsigned char* out) {
  const unsigned char* low = from + block / 4 * 64 + block % 2 * size;
  const unsigned char* upper = from + q6_k_upper + block / 4 * size;
  const auto low_shift = static_cast<int>(block % 4 / 2 * 4);
  const auto upper_shift = static_cast<int>(block % 4 * 2);
  for (int half = 0; half < 2; ++half)
    for (int t = 0; t < 4; ++t) {
      int byte = 0;
      for (int g = 0; g < 4; ++g)
        byte |= (upper[half * 16 + 4 * g + t] >> upper_shift & 3) << 2 * g;
      out[half * 4 + t] = static_cast<unsigned char>(byte);
    }
  for (int i = 0; i < size / 8; ++i)
    for (int t = 0; t < 4; ++t)
      out[8 + 4 * i + t] = static_cast<unsigned char>((low[8 * i + t] >> low_shift & 15) |
                                                      (low[8 * i + 4 + t] >> low_shift & 15) << 4);
}

/// The values of the block of 32 elements that is `block` in its unit, from the file's blocks.
void pack_body(dtype type, const unsigned char* from, int64_t block, unsigned char* out) {
  const unsigned char* pair = from + block / 2 * size; // of 32 elements of q4_k and q5_k
  const auto shift = static_cast<int>(block % 2 * 4);
  switch (type) {
  case dtype::q8_0:
    for (int i = 0; i < size; ++i)
      out[i] = from[2 + i] ^ 0x80;
    return;
  case dtype::q4_0:
    std::memcpy(out, from + 2, 16);
    return;
  case dtype::q4_1:
    std::memcpy(out, from + 4, 16);
    return;
  case dtype::q5_0:
    gather_fifths_of_word(from + 2, out);
    std::memcpy(out + 4, from + 6, 16);
    return;
  case dtype::q5_1:
    gather_fifths_of_word(from + 4, out);
    std::memcpy(out + 4, from + 8, 16);
    return;
  case dtype::q4_k:
    return gather_nibbles(pair + q4_k_values, shift, out);
  case dtype::q5_k:
    gather_fifths(from + q5_k_fifths, static_cast<int>(block), out);
    return gather_nibbles(pair + q5_k_values, shift, out + 4);
  case dtype::q6_k:
    return pack_six_bits(from, block, out);
  default:
    std::memcpy(out, from, 2 * size);
  }
}

/// The values of 32 elements as whole numbers, without what the type subtracts.
void unpack_levels(dtype type, const unsigned char* body, int* out) {
  const int bits = type == dtype::q8_0              ? 8
                   : type == dtype::q6_k            ? 6
                   : form_of(type).body_bytes == 20 ? 5
                                                    : 4;
  for (int i = 0; i < size; ++i) {
    const int g = i / 4, t = i % 4;
    if (bits == 8)
      out[i] = body[i];
    else if (bits == 6)
      out[i] = (body[8 + 4 * (g / 2) + t] >> g % 2 * 4 & 15) |
               (body[4 * (g / 4) + t] >> 2 * (g % 4) & 3) << 4;
    else {
      out[i] = body[(bits == 5 ? 4 : 0) + i % 16] >> i / 16 * 4 & 15;
      if (bits == 5)
        out[i] |= (body[t] >> g & 1) << 4;
    }
  }
}

float f16_at(const unsigned char* line, int64_t row) { return load_element(line, dtype::f16, row); }

/// Scale and minimum (which is added) of block `j` of a unit of q4_k or q5_k.
struct scale_and_minimum {
  float scale, minimum;
};
scale_and_minimum scales_of_k(const unsigned char* head, int64_t row, int64_t j) {
  const int low = head[low_bits_at + j * panel_rows + row];
  const int high = head[high_bits_at + j / 2 * panel_rows + row] >> j % 2 * 4;
  return {f16_at(head, row) * static_cast<float>((low & 15) | (high & 3) << 4),
          -(f16_at(head + f16_line, row) * static_cast<float>(low >> 4 | (high & 12) << 2))};
}

} // namespace

size_t panel_kind_of(dtype type) {
  const auto kind = is_blocks(type) ? static_cast<int>(type) - static_cast<int>(dtype::q8_0)
                                    : static_cast<int>(panel_kind::bf16);
  return static_cast<size_t>(kind);
}

int32_t added_to(dtype type) {
  switch (type) {
  case dtype::q8_0:
    return 128;
  case dtype::q4_0:
    return 8;
  case dtype::q5_0:
    return 16;
  case dtype::q6_k:
    return 32;
  default:
    return 0; // those have a minimum
  }
}

int64_t block_row_bytes(dtype type, int64_t k) {
  return static_cast<int64_t>(bytes_of(type, static_cast<uint64_t>(k)));
}

void pack_panel(dtype type, const unsigned char* rows, int64_t count, int64_t k,
                unsigned char* panel) {
  const auto f = form_of(type);
  const auto blocks = k / size, row_bytes = block_row_bytes(type, k);
  const auto unit_bytes = block_row_bytes(type, f.unit * size);
  unsigned char* values = panel + heads_bytes(f, blocks);
  if (count < panel_rows)
    std::memset(panel, 0, static_cast<size_t>(panel_rows * row_bytes));
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t row = 0; row < count; ++row) {
      const unsigned char* from = rows + row * row_bytes + block / f.unit * unit_bytes;
      if (block % f.unit == 0)
        pack_head(type, from, row, panel + block / f.unit * f.head_bytes * panel_rows);
      unsigned char body[body_bytes_max];
      pack_body(type, from, block % f.unit, body);
      unsigned char* to = values + block * f.body_bytes * panel_rows + row * group_bytes;
      for (int64_t at = 0; at < f.body_bytes; at += group_bytes)
        std::memcpy(to + at * panel_rows, body + at, group_bytes);
    }
}

void unpack_block(dtype type, const unsigned char* panel, int64_t row, int64_t block, int64_t k,
                  float* out) {
  const auto f = form_of(type);
  const unsigned char* head = panel + block / f.unit * f.head_bytes * panel_rows;
  const unsigned char* from =
      panel + heads_bytes(f, k / size) + block * f.body_bytes * panel_rows + row * group_bytes;
  unsigned char body[body_bytes_max];
  for (int64_t at = 0; at < f.body_bytes; at += group_bytes)
    std::memcpy(body + at, from + at * panel_rows, group_bytes);
  if (!is_blocks(type)) {
    for (int i = 0; i < size; ++i)
      out[i] = load_element(body, type, i);
    return;
  }
  int levels[size];
  unpack_levels(type, body, levels);
  const auto j = block % f.unit;
  const auto each = [&](auto value) {
    for (int i = 0; i < size; ++i)
      out[i] = value(i, levels[i]);
  };
  switch (type) {
  case dtype::q8_0:
  case dtype::q4_0:
  case dtype::q5_0:
    return each([&](int, int level) {
      return f16_at(head, row) * static_cast<float>(level - added_to(type));
    });
  case dtype::q6_k:
    return each([&](int i, int level) {
      const auto scale = static_cast<int8_t>(head[f16_line + (2 * j + i / 16) * panel_rows + row]);
      return f16_at(head, row) * static_cast<float>(scale) *
             static_cast<float>(level - added_to(type));
    });
  default:
    const bool own = type == dtype::q4_1 || type == dtype::q5_1;
    const auto s = own ? scale_and_minimum{f16_at(head, row), f16_at(head + f16_line, row)}
                       : scales_of_k(head, row, j);
    return each([=](int, int level) { return s.scale * static_cast<float>(level) + s.minimum; });
  }
}

} // namespace troupe::gpu::cpu
