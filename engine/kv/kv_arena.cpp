#include "engine/kv/kv_arena.hpp"

#include <algorithm>
#include <limits>

#include "engine/errors.hpp"

namespace troupe::engine {

kv_shape plan_kv(const model_config& config, dtype weights, const engine_options& options) {
  kv_shape out;
  out.type = options.kv_type.value_or(weights == dtype::f32 ? dtype::f32 : dtype::bf16);
  out.block_size = options.block_size;
  const auto row_bytes = static_cast<uint64_t>(config.head_dim) * size_of(out.type) +
                         (out.type == dtype::i8 ? sizeof(float) : 0);
  out.block_bytes =
      static_cast<uint64_t>(config.layers * 2 * config.kv_heads * out.block_size) * row_bytes;
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
  auto memory = device.allocate(shape.size_bytes());
  if (!memory)
    return caf::make_error(errc::out_of_memory,
                           "allocating a KV arena of " + std::to_string(shape.size_bytes()) +
                               " bytes on " + device.name() + ": " + describe(memory.error()));
  out.memory_ = std::move(*memory);
  return out;
}

gpu::kv_cache_view kv_arena::layer(int64_t index) const {
  const auto rows = static_cast<size_t>(shape_.tokens() * kv_heads_);
  const auto bytes = rows * static_cast<size_t>(head_dim_) * size_of(shape_.type);
  const auto at = static_cast<size_t>(index) * 2;
  gpu::kv_cache_view out;
  // Scales come before all bytes: there they are aligned whatever a head's size is.
  auto* data = memory_.as<std::byte>();
  if (shape_.type == dtype::i8) {
    out.k_scales = memory_.as<float>() + at * rows;
    out.v_scales = out.k_scales + rows;
    data += static_cast<size_t>(layers_) * 2 * rows * sizeof(float);
  }
  out.k = data + at * bytes;
  out.v = data + (at + 1) * bytes;
  out.type = shape_.type;
  out.blocks = shape_.blocks;
  out.kv_heads = kv_heads_;
  out.block_size = shape_.block_size;
  out.head_dim = head_dim_;
  return out;
}

/// Calls body(first, size_bytes) for every array of which each block has `size_bytes`.
template <class Body>
void kv_arena::for_parts(const Body& body) const {
  const auto rows = static_cast<uint64_t>(kv_heads_ * shape_.block_size);
  for (int64_t index = 0; index < layers_; ++index) {
    const auto view = layer(index);
    for (void* data : {view.k, view.v})
      body(static_cast<std::byte*>(data),
           rows * static_cast<uint64_t>(head_dim_) * size_of(shape_.type));
    for (float* scales : {view.k_scales, view.v_scales})
      if (scales != nullptr)
        body(reinterpret_cast<std::byte*>(scales), rows * sizeof(float));
  }
}

void kv_arena::copy_block(int32_t from, int32_t to) const {
  for_parts([&](std::byte* base, uint64_t size_bytes) {
    device_->copy(base + static_cast<uint64_t>(to) * size_bytes,
                  base + static_cast<uint64_t>(from) * size_bytes, size_bytes);
  });
}

void kv_arena::save_block(int32_t from, std::byte* to) const {
  for_parts([&](const std::byte* base, uint64_t size_bytes) {
    device_->copy_to_host(to, base + static_cast<uint64_t>(from) * size_bytes, size_bytes);
    to += size_bytes;
  });
}

void kv_arena::load_block(const std::byte* from, int32_t to) const {
  for_parts([&](std::byte* base, uint64_t size_bytes) {
    device_->copy_to_device(base + static_cast<uint64_t>(to) * size_bytes, from, size_bytes);
    from += size_bytes;
  });
}

} // namespace troupe::engine
