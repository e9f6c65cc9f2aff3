#include <emmintrin.h>

#include <algorithm>
#include <cstring>

#include "gpu/cpu/panel_form.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr int size = values_per_block;

// Where the parts of a file's block begin.
constexpr int64_t q4_k_values = 16, q5_k_fifths = 16, q5_k_values = 48;
constexpr int64_t q6_k_upper = 128, q6_k_scales = 192, q6_k_unit = 208;

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
  case dtype::f8_b128:
    std::memcpy(head + row * 4, from, 4);
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

/// Four bytes, and back: element 4 g + t is byte t of group g.
uint32_t load_group(const unsigned char* from) {
  uint32_t out;
  std::memcpy(&out, from, group_bytes);
  return out;
}
void store_group(unsigned char* to, uint32_t group) { std::memcpy(to, &group, group_bytes); }

constexpr uint32_t in_each_byte(uint32_t bits) { return bits * 0x01010101u; }

/// Fifth bits, one in each byte of `bits` at place `shift`, as a group.
void gather_fifths(const unsigned char* bits, int shift, unsigned char* out) {
  uint32_t all = 0;
  for (int g = 0; g < 8; ++g)
    all |= (load_group(bits + 4 * g) >> shift & in_each_byte(1)) << g;
  store_group(out, all);
}

/// The same of 32 bits, one for each element.
void gather_fifths_of_word(const unsigned char* word, unsigned char* out) {
  const auto bits = load_group(word);
  for (int t = 0; t < 4; ++t) {
    // Every fourth bit, moved together in halving distances.
    uint32_t x = bits >> t & 0x11111111u;
    x = (x | x >> 3) & 0x03030303u;
    x = (x | x >> 6) & 0x000f000fu;
    out[t] = static_cast<unsigned char>(x | x >> 12);
  }
}

/// Nibbles of 32 bytes at place `shift`, the second sixteen above the first.
void gather_nibbles(const unsigned char* from, int shift, unsigned char* out) {
  for (int i = 0; i < size / 2; i += group_bytes) {
    const auto low = load_group(from + i) >> shift & in_each_byte(15);
    const auto high = load_group(from + i + size / 2) >> shift & in_each_byte(15);
    store_group(out + i, low | high << 4);
  }
}

void pack_six_bits(const unsigned char* from, int64_t block, unsigned char* out) {
  const unsigned char* low = from + block / 4 * 64 + block % 2 * size;
  const unsigned char* upper = from + q6_k_upper + block / 4 * size;
  const auto low_shift = static_cast<int>(block % 4 / 2 * 4);
  const auto upper_shift = static_cast<int>(block % 4 * 2);
  for (int half = 0; half < 2; ++half) {
    uint32_t all = 0;
    for (int g = 0; g < 4; ++g)
      all |= (load_group(upper + half * 16 + 4 * g) >> upper_shift & in_each_byte(3)) << 2 * g;
    store_group(out + half * 4, all);
  }
  for (int i = 0; i < size / 8; ++i) {
    const auto first = load_group(low + 8 * i) >> low_shift & in_each_byte(15);
    const auto second = load_group(low + 8 * i + 4) >> low_shift & in_each_byte(15);
    store_group(out + 8 + 4 * i, first | second << 4);
  }
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
  case dtype::f8_b128:
    for (int i = 0; i < size; ++i)
      out[i] = from[4 + block * size + f8_place(i)];
    return;
  default:
    std::memcpy(out, from, 2 * size);
  }
}

/// The values of 32 elements of each row of a panel.
struct bodies {
  unsigned char of_row[panel_rows][body_bytes_max];
};

void pack_bodies(dtype type, const unsigned char* unit, int64_t row_bytes, int64_t block,
                 int64_t count, bodies& to) {
  for (int64_t row = 0; row < count; ++row)
    pack_body(type, unit + row * row_bytes, block, to.of_row[row]);
}

/// Four groups of four rows, `stride` bytes apart, turned: a group of each row in a register.
struct turned_groups {
  __m128i of[4];
  turned_groups(const unsigned char* from, int64_t stride) {
    const auto row = [&](int64_t i) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * stride));
    };
    const __m128i low01 = _mm_unpacklo_epi32(row(0), row(1));
    const __m128i low23 = _mm_unpacklo_epi32(row(2), row(3));
    const __m128i high01 = _mm_unpackhi_epi32(row(0), row(1));
    const __m128i high23 = _mm_unpackhi_epi32(row(2), row(3));
    of[0] = _mm_unpacklo_epi64(low01, low23);
    of[1] = _mm_unpackhi_epi64(low01, low23);
    of[2] = _mm_unpacklo_epi64(high01, high23);
    of[3] = _mm_unpackhi_epi64(high01, high23);
  }
};

/// Stores that go past the caches: of a large weight, what is written first has left them before
/// anything reads it, and a line that is written whole need not be fetched.
template <bool Past>
void store_line_part(unsigned char* to, __m128i part) {
  if constexpr (Past)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), part);
  else
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), part);
}

/// Groups of all rows of a panel, `stride` bytes apart, side by side. Reads whole steps of four
/// groups.
template <bool Past>
void interleave(const unsigned char* from, int64_t stride, int64_t groups, unsigned char* to) {
  for (int64_t group = 0; group < groups; group += 4) {
    const auto* at = from + group * group_bytes;
    const turned_groups fours[] = {{at, stride},
                                   {at + 4 * stride, stride},
                                   {at + 8 * stride, stride},
                                   {at + 12 * stride, stride}};
    const auto count = std::min<int64_t>(4, groups - group);
    for (int64_t i = 0; i < count; ++i, to += line_bytes)
      for (int64_t four = 0; four < 4; ++four)
        store_line_part<Past>(to + four * 4 * group_bytes, fours[four].of[i]);
  }
}

template <bool Past>
void pack(dtype type, const unsigned char* rows, int64_t count, int64_t k, unsigned char* panel) {
  const auto f = panel_form_of(type);
  const auto blocks = k / size, row_bytes = block_row_bytes(type, k);
  const auto unit_bytes = block_row_bytes(type, f.unit * size);
  unsigned char* values = panel + heads_bytes(f, blocks);
  if (count < panel_rows)
    std::memset(panel, 0, static_cast<size_t>(values - panel));
  else if (f.head_bytes == 0)
    return interleave<Past>(rows, row_bytes, row_bytes / group_bytes, values);
  bodies all{};
  for (int64_t block = 0; block < blocks; ++block) {
    const unsigned char* unit = rows + block / f.unit * unit_bytes;
    unsigned char* head = panel + block / f.unit * f.head_bytes * panel_rows;
    for (int64_t row = 0; block % f.unit == 0 && row < count; ++row)
      pack_head(type, unit + row * row_bytes, row, head);
    pack_bodies(type, unit, row_bytes, block % f.unit, count, all);
    interleave<Past>(all.of_row[0], body_bytes_max, f.body_bytes / group_bytes,
                     values + block * f.body_bytes * panel_rows);
  }
}

} // namespace

void pack_panel(dtype type, const unsigned char* rows, int64_t count, int64_t k,
                unsigned char* panel) {
  pack<false>(type, rows, count, k, panel);
}

void place_panel(dtype type, const unsigned char* rows, int64_t k, unsigned char* panel) {
  // What follows the heads is as aligned as these.
  if (reinterpret_cast<uintptr_t>(panel) % sizeof(__m128i) != 0)
    return pack<false>(type, rows, panel_rows, k, panel);
  pack<true>(type, rows, panel_rows, k, panel);
  _mm_sfence(); // whoever is told that the panel is there shall see it
}

} // namespace troupe::gpu::cpu
