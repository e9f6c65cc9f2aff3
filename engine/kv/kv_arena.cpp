#include "engine/kv/kv_arena.hpp"

#include <algorithm>
#include <limits>

#include "engine/errors.hpp"

namespace troupe::engine {

namespace {

/// Bytes of one layer's parts of a block, each at a multiple of a cache line, and of all of it.
struct block_parts {
  int64_t side = 0;   ///< keys, or values
  int64_t scales = 0; ///< of one of the two
  int64_t block = 0;
};

int64_t rounded(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

block_parts parts_of(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t block_size,
                     dtype type) {
  constexpr int64_t line = 64;
  const auto rows = kv_heads * block_size;
  block_parts out;
  out.side = rounded(rows * head_dim * static_cast<int64_t>(size_of(type)), line);
  if (type == dtype::i8)
    out.scales = rounded(rows * static_cast<int64_t>(sizeof(float)), line);
  out.block = rounded(layers * 2 * (out.side + out.scales), gpu::kv_granule);
  return out;
}

} // namespace

kv_shape plan_kv(const model_config& config, dtype weights, const engine_options& options) {
  kv_shape out;
  out.type = options.kv_type.value_or(weights == dtype::f32 ? dtype::f32 : dtype::bf16);
  out.block_size = options.block_size;
  out.block_bytes = static_cast<uint64_t>(
      parts_of(config.layers, config.kv_heads, config.head_dim, out.block_size, out.type).block);
  int64_t context = config.context_length;
  if (options.context_max != 0)
    context = std::min<int64_t>(context, options.context_max);
  const int64_t useful =
      (context + out.block_size - 1) / out.block_size * int64_t{options.sequences_max};
  const auto affordable = static_cast<int64_t>(
      std::min<uint64_t>(options.kv_bytes / out.block_bytes, std::numeric_limits<int32_t>::max()));
  out.blocks = std::min(affordable, useful);
  return out;
}

caf::expected<kv_arena> kv_arena::create(const model_config& config, const kv_shape& shape,
                                         gpu::device& device) {
  kv_arena out;
  out.device_ = &device;
  out.shape_ = shape;
  out.layers_ = config.layers;
  out.kv_heads_ = config.kv_heads;
  out.head_dim_ = config.head_dim;
  out.granules_ = static_cast<int32_t>(shape.block_bytes / gpu::kv_granule);
  auto memory = device.allocate(shape.size_bytes());
  if (!memory)
    return caf::make_error(errc::out_of_memory,
                           "allocating a KV arena of " + std::to_string(shape.size_bytes()) +
                               " bytes on " + device.name() + ": " + describe(memory.error()));
  out.memory_ = std::move(*memory);
  return out;
}

gpu::kv_cache_view kv_arena::layer(int64_t index) const {
  const auto parts = parts_of(layers_, kv_heads_, head_dim_, shape_.block_size, shape_.type);
  const auto scales = index * 2 * parts.scales;
  const auto sides = layers_ * 2 * parts.scales + index * 2 * parts.side;
  gpu::kv_cache_view out;
  out.arena = memory_.as<std::byte>();
  out.arena_bytes = shape_.size_bytes();
  out.type = shape_.type;
  out.kv_heads = kv_heads_;
  out.block_size = shape_.block_size;
  out.head_dim = head_dim_;
  out.k = sides;
  out.v = sides + parts.side;
  out.k_scales = scales;
  out.v_scales = scales + parts.scales;
  return out;
}

std::byte* kv_arena::at(int32_t block) const {
  return memory_.as<std::byte>() + static_cast<uint64_t>(block) * shape_.block_bytes;
}

void kv_arena::copy_block(int32_t from, int32_t to) const {
  device_->copy(at(to), at(from), shape_.block_bytes);
}

void kv_arena::save_block(int32_t from, std::byte* to) const {
  device_->copy_to_host(to, at(from), shape_.block_bytes);
}

void kv_arena::load_block(const std::byte* from, int32_t to) const {
  device_->copy_to_device(at(to), from, shape_.block_bytes);
}

} // namespace troupe::engine
