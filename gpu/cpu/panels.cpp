#include "gpu/cpu/panels.hpp"

#include <cstring>

namespace troupe::gpu::cpu {
namespace {

constexpr int64_t group_bytes = 4;
constexpr int64_t f16_bytes = 2;

/// What is added to every byte: 128 to those of q8_0.
uint32_t flip_of(dtype type) { return type == dtype::q8_0 ? 0x80808080u : 0; }

int64_t block_bytes(dtype type) { return static_cast<int64_t>(bytes_of(type, block_elements)); }
int64_t scale_bytes_of(dtype type) { return is_blocks(type) ? f16_bytes : 0; }
int64_t groups_of(dtype type) { return (block_bytes(type) - scale_bytes_of(type)) / group_bytes; }

void copy_flipped(const unsigned char* from, unsigned char* to, uint32_t flip) {
  uint32_t group;
  std::memcpy(&group, from, sizeof group);
  group ^= flip;
  std::memcpy(to, &group, sizeof group);
}

} // namespace

int64_t block_row_bytes(dtype type, int64_t k) {
  return static_cast<int64_t>(bytes_of(type, static_cast<uint64_t>(k)));
}

void pack_panel(dtype type, const unsigned char* rows, int64_t count, int64_t k,
                unsigned char* panel) {
  const auto blocks = k / int64_t{block_elements}, groups = groups_of(type);
  const auto row_bytes = block_row_bytes(type, k), scale_bytes = scale_bytes_of(type);
  const auto flip = flip_of(type);
  unsigned char* values = panel + blocks * panel_rows * scale_bytes;
  if (count < panel_rows)
    std::memset(panel, 0, static_cast<size_t>(panel_rows * row_bytes));
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t row = 0; row < count; ++row) {
      const unsigned char* from = rows + row * row_bytes + block * block_bytes(type);
      if (scale_bytes != 0)
        std::memcpy(panel + (block * panel_rows + row) * scale_bytes, from, f16_bytes);
      unsigned char* to = values + (block * groups * panel_rows + row) * group_bytes;
      for (int64_t group = 0; group < groups; ++group)
        copy_flipped(from + scale_bytes + group * group_bytes,
                     to + group * panel_rows * group_bytes, flip);
    }
}

void unpack_block(dtype type, const unsigned char* panel, int64_t row, int64_t block, int64_t k,
                  unsigned char* out) {
  const auto blocks = k / int64_t{block_elements}, groups = groups_of(type);
  const auto scale_bytes = scale_bytes_of(type);
  const unsigned char* values = panel + blocks * panel_rows * scale_bytes;
  if (scale_bytes != 0)
    std::memcpy(out, panel + (block * panel_rows + row) * scale_bytes, f16_bytes);
  const unsigned char* from = values + (block * groups * panel_rows + row) * group_bytes;
  for (int64_t group = 0; group < groups; ++group)
    copy_flipped(from + group * panel_rows * group_bytes, out + scale_bytes + group * group_bytes,
                 flip_of(type));
}

} // namespace troupe::gpu::cpu
