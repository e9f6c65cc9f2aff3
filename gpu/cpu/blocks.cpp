#include "gpu/cpu/blocks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/blocks.hpp"
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

bool is_in_panel(const weight& w, int64_t row) {
  return w.layout == weight_layout::panels && row < w.rows / panel_rows * panel_rows;
}

const unsigned char* panel_of(const weight& w, int64_t row) {
  return static_cast<const unsigned char*>(w.data) +
         row / panel_rows * panel_rows * block_row_bytes(w.type, w.cols);
}

/// Elements [from, from + count) of a row that is in no panel; whole blocks.
void decode_part(const weight& w, int64_t row, int64_t from, int64_t count, float* out) {
  const auto* data = static_cast<const std::byte*>(w.data) + row * block_row_bytes(w.type, w.cols);
  decode_blocks(
      w.type,
      {data + block_row_bytes(w.type, from), static_cast<size_t>(block_row_bytes(w.type, count))},
      {out, static_cast<size_t>(count)});
}

/// One row as plain blocks.
void quantize_row(const quantize_args& args, int64_t row, unsigned char* to) {
  const auto row_bytes = block_row_bytes(args.to, args.w.cols);
  if (args.w.type == args.to) {
    std::memcpy(to, static_cast<const unsigned char*>(args.w.data) + row * row_bytes,
                static_cast<size_t>(row_bytes));
    return;
  }
  std::vector<float> x(static_cast<size_t>(args.w.cols));
  expand_row(args.w, row, x.data());
  for (int64_t at = 0; at < args.w.cols; at += size, to += bytes_of(args.to, size))
    quantize_block(args.to, x.data() + at, to);
}

} // namespace

void quantize_block(dtype to, const float* x, unsigned char* out) {
  if (to == dtype::q8_0)
    quantize_q8_0(x, out);
  else
    quantize_q4_0(x, out);
}

void expand_row(const weight& w, int64_t row, float* out) {
  if (!is_in_panel(w, row))
    return decode_part(w, row, 0, w.cols, out);
  for (int64_t block = 0; block < w.cols / size; ++block)
    unpack_block(w.type, panel_of(w, row), row % panel_rows, block, w.cols, out + block * size);
}

float load_any(const weight& w, int64_t row, int64_t col) {
  constexpr int most = 256;
  float part[most];
  const auto step = is_in_panel(w, row) ? int64_t{size} : int64_t{layout_of(w.type).elements};
  if (is_in_panel(w, row))
    unpack_block(w.type, panel_of(w, row), row % panel_rows, col / size, w.cols, part);
  else
    decode_part(w, row, col / step * step, step, part);
  return part[col % step];
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
