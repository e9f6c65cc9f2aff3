#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.hpp"
#include "engine/kv/kv_memory.hpp"
#include "engine/model/model_config.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// How many KV blocks of what size a model may come to have.
struct kv_shape {
  dtype type = dtype::bf16;
  int64_t block_size = 16;
  int64_t blocks = 0;
  uint64_t block_bytes = 0; ///< over all layers, keys and values; whole granules
  // What it borrows at a time:
  int32_t run_spans = 1;
  int32_t run_blocks = 1;

  int64_t tokens() const { return blocks * block_size; }
  uint64_t size_bytes() const { return static_cast<uint64_t>(blocks) * block_bytes; }
  int32_t runs() const { return static_cast<int32_t>((blocks + run_blocks - 1) / run_blocks); }
};

/// As many blocks as `options.kv_bytes` hold, but no more than its sequences could ever fill, nor
/// than there is room for in `memory`. Without `memory` it has one of its own, in which a span is a
/// block.
kv_shape plan_kv(const model_config& config, dtype weights, const engine_options& options,
                 const kv_memory* memory = nullptr);

/// What a model has borrowed of the KV memory of its device. A block holds all layers,
/// [layer][k, v], behind the scales of all of them, if it has any. Blocks count from 0 over the
/// runs that the model may borrow, whether it has them or not.
class kv_arena {
public:
  /// Of `memory`, or of one that is made on `device` as `shape` says if there is none.
  static caf::expected<kv_arena> create(const model_config& config, const kv_shape& shape,
                                        gpu::device& device, std::shared_ptr<kv_memory> memory);
  kv_arena(kv_arena&&) = default;
  ~kv_arena();

  /// Only then it may borrow; from then on it stays where it is. `self` is who owns it.
  void join(kv_borrower& self);
  const kv_shape& shape() const { return shape_; }
  gpu::kv_cache_view layer(int64_t index) const;
  /// What the device calls a block that it has (see `gpu::kv_cache_view`).
  int32_t number(int32_t block) const {
    return first_[static_cast<size_t>(block / shape_.run_blocks)] * span_granules_ +
           block % shape_.run_blocks * block_granules_;
  }
  /// Queues a copy of what block `from` holds, in all layers, to block `to`.
  void copy_block(int32_t from, int32_t to) const;
  /// Queues copies of a block's `block_bytes` to the host, and from there.
  void save_block(int32_t from, std::byte* to) const;
  void load_block(const std::byte* from, int32_t to) const;
  gpu::device& device() const { return memory_->device(); }
  /// What is the model's alone: all of a memory of its own, else what it has borrowed.
  uint64_t size_bytes() const;

  /// As `kv_memory::lend`, for the run `slot`.
  policies::kv_relief borrow(int32_t slot, policies::kv_plea plea);
  void give_back(int32_t slot);
  void moved(int32_t slot, int32_t first) { first_[static_cast<size_t>(slot)] = first; }
  /// Runs that could be had in addition for a sequence that comes now.
  int32_t runs_within_reach() const;
  int32_t runs_here() const { return runs_here_; }
  uint64_t tick() const { return memory_->tick(); }

private:
  kv_arena() = default;
  std::byte* at(int32_t block) const;

  std::shared_ptr<kv_memory> memory_;
  kv_borrower* self_ = nullptr;
  bool is_private_ = false;
  kv_shape shape_;
  int64_t layers_ = 0;
  int64_t kv_heads_ = 0;
  int64_t head_dim_ = 0;
  int32_t span_granules_ = 0, block_granules_ = 0;
  std::vector<int32_t> first_; ///< span of each run that is here
  int32_t runs_here_ = 0;
};

} // namespace troupe::engine
