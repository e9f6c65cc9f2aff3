#include "gpu/cpu/blocks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "gpu/cpu/element.hpp"
#include "gpu/cpu/panels.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr int size = static_cast<int>(block_elements);

void store_scale(unsigned char* to, float scale) { store_element(to, dtype::f16, 0, scale); }

/// x / scale, or 0 where the block has no scale to speak of.
float divided(float x, float scale) { return scale == 0 ? 0 : x / scale; }

/// The value of the largest magnitude; NaN if there is one.
float extreme_of(const float* x) {
  float out = 0;
  for (int i = 0; i < size; ++i) {
    if (std::isnan(x[i]))
      return x[i];
    if (std::abs(x[i]) > std::abs(out))
      out = x[i];
  }
  return out;
}

void quantize_q8_0(const float* x, unsigned char* to) {
  store_scale(to, std::abs(extreme_of(x)) / 127);
  const float scale = load_element(to, dtype::f16, 0);
  for (int i = 0; i < size; ++i) {
    const float value = std::isfinite(scale) ? std::nearbyint(divided(x[i], scale)) : 1;
    to[2 + i] = static_cast<unsigned char>(static_cast<int8_t>(std::clamp(value, -127.f, 127.f)));
  }
}

/// The scale's sign is chosen so that the extreme is -8, the end that has one step more.
void quantize_q4_0(const float* x, unsigned char* to) {
  store_scale(to, extreme_of(x) / -8);
  const float scale = load_element(to, dtype::f16, 0);
  const auto nibble = [&](float value) {
    const float step = std::isfinite(scale) ? std::nearbyint(divided(value, scale)) : 1;
    return static_cast<unsigned>(std::clamp(step, -8.0f, 7.0f) + 8);
  };
  for (int i = 0; i < size / 2; ++i)
    to[2 + i] = static_cast<unsigned char>(nibble(x[i]) | nibble(x[i + size / 2]) << 4);
}

float block_element(dtype type, const unsigned char* block, int64_t at) {
  if (!is_blocks(type))
    return load_element(block, type, at);
  const float scale = load_element(block, dtype::f16, 0);
  if (type == dtype::q8_0)
    return scale * static_cast<float>(static_cast<int8_t>(block[2 + at]));
  const auto byte = block[2 + at % (size / 2)];
  return scale * static_cast<float>(static_cast<int>(at < size / 2 ? byte & 15 : byte >> 4) - 8);
}

/// One row as plain blocks.
void quantize_row(const quantize_args& args, int64_t row, unsigned char* to) {
  const auto row_bytes = block_row_bytes(args.to, args.w.cols);
  if (args.w.type == args.to) {
    std::memcpy(to, static_cast<const unsigned char*>(args.w.data) + row * row_bytes,
                static_cast<size_t>(row_bytes));
    return;
  }
  float x[size];
  for (int64_t at = 0; at < args.w.cols; at += size, to += bytes_of(args.to, size)) {
    for (int i = 0; i < size; ++i)
      x[i] = load_any(args.w, row, at + i);
    if (args.to == dtype::q8_0)
      quantize_q8_0(x, to);
    else
      quantize_q4_0(x, to);
  }
}

} // namespace

float load_any(const weight& w, int64_t row, int64_t col) {
  if (!is_blocks(w.type) && w.layout == weight_layout::rows)
    return load_element(w.data, w.type, row * w.cols + col);
  unsigned char block[block_bytes_max];
  copy_block(w, row, col / size, block);
  return block_element(w.type, block, col % size);
}

void copy_block(const weight& w, int64_t row, int64_t block, unsigned char* out) {
  const auto row_bytes = block_row_bytes(w.type, w.cols);
  const auto* data = static_cast<const unsigned char*>(w.data);
  const auto bytes = bytes_of(w.type, block_elements);
  if (w.layout == weight_layout::panels && row < w.rows / panel_rows * panel_rows)
    unpack_block(w.type, data + row / panel_rows * panel_rows * row_bytes, row % panel_rows, block,
                 w.cols, out);
  else
    std::memcpy(out, data + row * row_bytes + block * static_cast<int64_t>(bytes), bytes);
}

void quantize_rows(const quantize_args& args, int64_t row, int64_t count, unsigned char* scratch) {
  const auto row_bytes = block_row_bytes(args.to, args.w.cols);
  auto* to = static_cast<unsigned char*>(args.out) + row * row_bytes;
  const bool panel = args.layout == weight_layout::panels && count == panel_rows;
  for (int64_t i = 0; i < count; ++i)
    quantize_row(args, row + i, (panel ? scratch : to) + i * row_bytes);
  if (panel)
    pack_panel(args.to, scratch, count, args.w.cols, to);
}

} // namespace troupe::gpu::cpu
