#include "engine/kv/kv_arena.hpp"

#include <algorithm>
#include <limits>

#include "engine/errors.hpp"

namespace troupe::engine {

kv_shape plan_kv(const model_config& config, dtype weights, const engine_options& options) {
  kv_shape out;
  out.type = options.kv_type.value_or(weights == dtype::f32 ? dtype::f32 : dtype::bf16);
  out.block_size = options.block_size;
  out.block_bytes = static_cast<uint64_t>(config.layers * 2 * config.kv_size() * out.block_size) *
                    size_of(out.type);
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
  const auto bytes =
      static_cast<size_t>(shape_.tokens() * kv_heads_ * head_dim_) * size_of(shape_.type);
  auto* first = memory_.as<std::byte>() + static_cast<size_t>(index) * 2 * bytes;
  return {first,     first + bytes,     shape_.type, shape_.blocks,
          kv_heads_, shape_.block_size, head_dim_};
}

void kv_arena::copy_block(int32_t from, int32_t to) const {
  const auto part = shape_.block_bytes / (2 * static_cast<uint64_t>(layers_));
  for (int64_t index = 0; index < layers_; ++index) {
    const auto view = layer(index);
    for (void* base : {view.k, view.v}) {
      auto* bytes = static_cast<std::byte*>(base);
      device_->copy(bytes + static_cast<uint64_t>(to) * part,
                    bytes + static_cast<uint64_t>(from) * part, part);
    }
  }
}

} // namespace troupe::engine
