#include "gpu/cpu/panels.hpp"

#include <cstring>

#include "base/half.hpp"
#include "gpu/cpu/element.hpp"
#include "gpu/cpu/kernels.hpp"
#include "gpu/cpu/panel_form.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr int size = values_per_block;

/// The values of 32 elements as whole numbers, without what the type subtracts.
void unpack_levels(dtype type, const unsigned char* body, int* out) {
  const int bits = type == dtype::q8_0                    ? 8
                   : type == dtype::q6_k                  ? 6
                   : panel_form_of(type).body_bytes == 20 ? 5
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

void unpack_block(dtype type, const unsigned char* panel, int64_t row, int64_t block, int64_t k,
                  float* out) {
  const auto f = panel_form_of(type);
  const unsigned char* head = panel + block / f.unit * f.head_bytes * panel_rows;
  const unsigned char* from =
      panel + heads_bytes(f, k / size) + block * f.body_bytes * panel_rows + row * group_bytes;
  unsigned char body[body_bytes_max];
  for (int64_t at = 0; at < f.body_bytes; at += group_bytes)
    std::memcpy(body + at, from + at * panel_rows, group_bytes);
  if (type == dtype::f8_b128) {
    const float scale = load_element(head, dtype::f32, row);
    for (int i = 0; i < size; ++i)
      out[i] = scale * f8_e4m3_to_float(body[f8_place(i)]);
    return;
  }
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
