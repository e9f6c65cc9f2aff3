#include "gpu/cpu/blocks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gpu/cpu/element.hpp"

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

} // namespace

float load_any(const void* data, dtype type, int64_t i) {
  if (!is_blocks(type))
    return load_element(data, type, i);
  const auto* block = static_cast<const unsigned char*>(data) +
                      bytes_of(type, block_elements) * static_cast<uint64_t>(i / size);
  const float scale = load_element(block, dtype::f16, 0);
  const auto at = i % size;
  if (type == dtype::q8_0)
    return scale * static_cast<float>(static_cast<int8_t>(block[2 + at]));
  const auto byte = block[2 + at % (size / 2)];
  return scale * static_cast<float>(static_cast<int>(at < size / 2 ? byte & 15 : byte >> 4) - 8);
}

void quantize_row(const quantize_args& args, int64_t row) {
  const auto bytes = bytes_of(args.to, block_elements);
  const auto blocks = args.w.cols / size;
  auto* to = static_cast<unsigned char*>(args.out) + bytes * static_cast<uint64_t>(row * blocks);
  float x[size];
  for (int64_t block = 0; block < blocks; ++block, to += bytes) {
    for (int i = 0; i < size; ++i)
      x[i] = load_element(args.w.data, args.w.type, row * args.w.cols + block * size + i);
    if (args.to == dtype::q8_0)
      quantize_q8_0(x, to);
    else
      quantize_q4_0(x, to);
  }
}

} // namespace troupe::gpu::cpu
