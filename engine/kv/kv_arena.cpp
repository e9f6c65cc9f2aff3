#include "engine/kv/kv_arena.hpp"

#include <algorithm>
#include <bit>
#include <limits>

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

/// Spans at a time: so many that little is left over behind the last block in them.
int32_t run_spans_for(uint64_t block_bytes, uint64_t span_bytes) {
  constexpr uint64_t part_left_max = 8, tries = 4;
  const auto least = std::bit_ceil((block_bytes + span_bytes - 1) / span_bytes);
  auto best = least;
  auto fewest = 1.0;
  for (auto spans = least; spans <= least << (tries - 1); spans *= 2) {
    const auto bytes = spans * span_bytes;
    const auto left = static_cast<double>(bytes % block_bytes) / static_cast<double>(bytes);
    if (left < fewest) {
      fewest = left;
      best = spans;
    }
    if (fewest <= 1.0 / part_left_max)
      break;
  }
  return static_cast<int32_t>(best);
}

} // namespace

kv_shape plan_kv(const model_config& config, dtype weights, const engine_options& options,
                 const kv_memory* memory) {
  kv_shape out;
  out.type = options.kv_type.value_or(weights == dtype::f32 ? dtype::f32 : dtype::bf16);
  out.block_size = options.block_size;
  out.block_bytes = static_cast<uint64_t>(
      parts_of(config.layers, config.kv_heads, config.head_dim, out.block_size, out.type).block);
  auto run_bytes = out.block_bytes, bytes_max = options.kv_bytes;
  if (memory != nullptr) {
    out.run_spans = run_spans_for(out.block_bytes, memory->span_bytes());
    run_bytes = static_cast<uint64_t>(out.run_spans) * memory->span_bytes();
    out.run_blocks = static_cast<int32_t>(run_bytes / out.block_bytes);
    bytes_max = std::min(bytes_max, memory->size_bytes());
  }
  int64_t context = config.context_length;
  if (options.context_max != 0)
    context = std::min<int64_t>(context, options.context_max);
  const int64_t useful =
      (context + out.block_size - 1) / out.block_size * int64_t{options.sequences_max};
  const auto affordable =
      static_cast<int64_t>(std::min<uint64_t>(bytes_max / run_bytes, INT32_MAX / out.run_blocks)) *
      out.run_blocks;
  out.blocks = std::min(affordable, useful);
  return out;
}

caf::expected<kv_arena> kv_arena::create(const model_config& config, const kv_shape& shape,
                                         gpu::device& device, std::shared_ptr<kv_memory> memory) {
  kv_arena out;
  out.is_private_ = !memory;
  if (!memory) {
    auto made = kv_memory::create(device, shape.size_bytes(), shape.block_bytes);
    if (!made)
      return made.error();
    memory = std::move(*made);
  }
  constexpr auto granule = static_cast<uint64_t>(gpu::kv_granule);
  out.span_granules_ = static_cast<int32_t>(memory->span_bytes() / granule);
  out.block_granules_ = static_cast<int32_t>(shape.block_bytes / granule);
  out.memory_ = std::move(memory);
  out.shape_ = shape;
  out.layers_ = config.layers;
  out.kv_heads_ = config.kv_heads;
  out.head_dim_ = config.head_dim;
  out.first_.resize(static_cast<size_t>(shape.runs()));
  return out;
}

kv_arena::~kv_arena() {
  if (memory_ && self_ != nullptr)
    memory_->leave(*self_);
}

void kv_arena::join(kv_borrower& self) {
  self_ = &self;
  memory_->join(self);
}

uint64_t kv_arena::size_bytes() const {
  return is_private_ ? memory_->size_bytes()
                     : static_cast<uint64_t>(runs_here_) * static_cast<uint64_t>(shape_.run_spans) *
                           memory_->span_bytes();
}

policies::kv_relief kv_arena::borrow(int32_t slot, policies::kv_plea plea) {
  plea.spans = static_cast<uint64_t>(shape_.run_spans);
  plea.may_borrow = slot < shape_.runs();
  const auto got = memory_->lend(*self_, slot, plea);
  if (got.how == policies::kv_relief::borrow) {
    moved(slot, got.first);
    ++runs_here_;
  }
  return got.how;
}

void kv_arena::give_back(int32_t slot) {
  memory_->give_back(first_[static_cast<size_t>(slot)]);
  --runs_here_;
}

int32_t kv_arena::runs_within_reach() const {
  const auto spans = memory_->within_reach(*self_);
  return static_cast<int32_t>(
      std::min<uint64_t>(spans / static_cast<uint64_t>(shape_.run_spans),
                         static_cast<uint64_t>(shape_.runs() - runs_here_)));
}

gpu::kv_cache_view kv_arena::layer(int64_t index) const {
  const auto parts = parts_of(layers_, kv_heads_, head_dim_, shape_.block_size, shape_.type);
  const auto scales = index * 2 * parts.scales;
  const auto sides = layers_ * 2 * parts.scales + index * 2 * parts.side;
  gpu::kv_cache_view out;
  out.arena = memory_->base();
  out.arena_bytes = memory_->size_bytes();
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
  return memory_->base() + int64_t{number(block)} * gpu::kv_granule;
}

void kv_arena::copy_block(int32_t from, int32_t to) const {
  device().copy(at(to), at(from), shape_.block_bytes);
}

void kv_arena::save_block(int32_t from, std::byte* to) const {
  device().copy_to_host(to, at(from), shape_.block_bytes);
}

void kv_arena::load_block(const std::byte* from, int32_t to) const {
  device().copy_to_device(at(to), from, shape_.block_bytes);
}

} // namespace troupe::engine
