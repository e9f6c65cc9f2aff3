#pragma once
#include <cstdint>

#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// How many KV blocks of what size a model gets.
struct kv_shape {
  dtype type = dtype::bf16;
  int64_t block_size = 16;
  int64_t blocks = 0;
  uint64_t block_bytes = 0; ///< over all layers, keys and values; whole granules

  int64_t tokens() const { return blocks * block_size; }
  uint64_t size_bytes() const { return static_cast<uint64_t>(blocks) * block_bytes; }
};

/// As many blocks as `options.kv_bytes` holds, but no more than its sequences could ever fill.
kv_shape plan_kv(const model_config& config, dtype weights, const engine_options& options);

/// The KV memory of a model on a device: one allocation, block behind block. A block holds all
/// layers, [layer][k, v], behind the scales of all of them, if it has any.
class kv_arena {
public:
  /// `device` must outlive the arena.
  static caf::expected<kv_arena> create(const model_config& config, const kv_shape& shape,
                                        gpu::device& device);
  const kv_shape& shape() const { return shape_; }
  gpu::kv_cache_view layer(int64_t index) const;
  /// What the device calls a block (see `gpu::kv_cache_view`).
  int32_t number(int32_t block) const { return block * granules_; }
  /// Queues a copy of what block `from` holds, in all layers, to block `to`.
  void copy_block(int32_t from, int32_t to) const;
  /// Queues copies of a block's `block_bytes` to the host, and from there.
  void save_block(int32_t from, std::byte* to) const;
  void load_block(const std::byte* from, int32_t to) const;
  gpu::device& device() const { return *device_; }

private:
  std::byte* at(int32_t block) const;

  gpu::device* device_ = nullptr;
  kv_shape shape_;
  int64_t layers_ = 0;
  int64_t kv_heads_ = 0;
  int64_t head_dim_ = 0;
  int32_t granules_ = 0; ///< of a block
  gpu::buffer memory_;
};

} // namespace troupe::engine
