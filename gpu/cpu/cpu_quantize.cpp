#include <algorithm>
#include <cmath>
#include <limits>

#include "gpu/cpu/blocks.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/element.hpp"
#include "gpu/cpu/panels.hpp"

namespace troupe::gpu::cpu {
namespace {

constexpr int64_t size = static_cast<int64_t>(block_elements);

/// What a scale is made from: the largest magnitude, for q4_0 with the sign of the first that has
/// it, because -8 is one step further away than 7.
float signed_extreme(const float* x, float magnitude) {
  if (magnitude == 0)
    return 0; // of either sign
  return *std::find_if(x, x + size, [=](float one) { return std::abs(one) == magnitude; });
}

/// The block's scale as it is stored, also at `to`. Not finite where the block holds what is not.
float store_scale(dtype type, const float* x, float magnitude, unsigned char* to) {
  if (std::isnan(magnitude))
    return magnitude;
  const float scale = type == dtype::q8_0 ? magnitude / 127 : signed_extreme(x, magnitude) / -8;
  store_element(to, dtype::f16, 0, scale);
  return load_element(to, dtype::f16, 0);
}

void store_levels(dtype type, const int8_t* levels, unsigned char* to) {
  if (type == dtype::q8_0) {
    std::copy_n(levels, size, reinterpret_cast<int8_t*>(to));
    return;
  }
  for (int64_t i = 0; i < size / 2; ++i)
    to[i] = static_cast<unsigned char>((levels[i] + 8) | (levels[i + size / 2] + 8) << 4);
}

} // namespace

/// A thread's room for quantizing a panel.
struct cpu_device::quantize_room {
  quantize_room(scratch& memory, const quantize_args& args) {
    const auto cols = static_cast<size_t>((args.w.cols + size - 1) / size * size);
    const auto floats = cols * sizeof(float), scales = cols / size * sizeof(float);
    const auto rows = static_cast<size_t>(panel_rows * block_row_bytes(args.to, args.w.cols));
    auto* all = memory.get<unsigned char>(floats + scales + cols + rows);
    x = reinterpret_cast<float*>(all);
    divisors = reinterpret_cast<float*>(all + floats);
    levels = reinterpret_cast<int8_t*>(all + floats + scales);
    plain = all + floats + scales + cols;
  }
  float* x;             ///< a row
  float* divisors;      ///< of each of its blocks
  int8_t* levels;       ///< of each of its elements
  unsigned char* plain; ///< the rows of a panel, as blocks
};

/// One row as plain blocks: what `quantize_block` gives for each.
void cpu_device::quantize_row(const quantize_args& args, int64_t row, const quantize_room& room,
                              unsigned char* to) const {
  const auto cols = args.w.cols;
  const auto block_bytes = block_row_bytes(args.to, size);
  const bool wide = args.to == dtype::q8_0;
  widened_row(args.w, row, room.x);
  isa_.kernels.extremes(room.x, room.divisors, cols);
  for (int64_t block = 0; block < cols / size; ++block) {
    float& divisor = room.divisors[block];
    divisor = store_scale(args.to, room.x + block * size, divisor, to + block * block_bytes);
    if (divisor == 0)
      divisor = std::numeric_limits<float>::infinity(); // every level is zero
    else if (!std::isfinite(divisor))
      divisor = std::numeric_limits<float>::quiet_NaN();
  }
  isa_.kernels.levels(room.x, room.divisors, wide ? -127.0f : -8.0f, wide ? 127.0f : 7.0f,
                      room.levels, cols);
  for (int64_t block = 0; block < cols / size; ++block) {
    unsigned char* out = to + block * block_bytes;
    if (std::isnan(room.divisors[block]))
      quantize_block(args.to, room.x + block * size, out);
    else
      store_levels(args.to, room.levels + block * size, out + 2);
  }
}

void cpu_device::quantize_panel(const quantize_args& args, int64_t row, int64_t count,
                                const quantize_room& room) const {
  const auto row_bytes = block_row_bytes(args.to, args.w.cols);
  auto* to = static_cast<unsigned char*>(args.out) + row * row_bytes;
  const auto* from = static_cast<const unsigned char*>(args.w.data) + row * row_bytes;
  const bool panel = args.layout == weight_layout::panels && count == panel_rows;
  const bool there = args.w.type == args.to;
  auto* plain = panel ? room.plain : to;
  for (int64_t i = 0; !there && i < count; ++i)
    quantize_row(args, row + i, room, plain + i * row_bytes);
  if (panel)
    place_panel(args.to, there ? from : plain, args.w.cols, to);
  else if (there)
    std::copy_n(from, count * row_bytes, to);
}

void cpu_device::quantize(const quantize_args& args) {
  pages().fill(args.out, static_cast<size_t>(args.w.rows * block_row_bytes(args.to, args.w.cols)));
  const auto panels = (args.w.rows + panel_rows - 1) / panel_rows;
  pool_.run(panels, [&](int64_t panel, unsigned thread) {
    const auto row = panel * panel_rows;
    quantize_panel(args, row, std::min(panel_rows, args.w.rows - row),
                   quantize_room{thread_scratch_[thread], args});
  });
}

} // namespace troupe::gpu::cpu
