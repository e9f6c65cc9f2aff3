#include "engine/model/graph.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "engine/errors.hpp"

namespace troupe::engine {

void forward_batch::clear() {
  tokens.clear();
  positions.clear();
  slots.clear();
  row_start.assign(1, 0);
  context.clear();
  block_table.clear();
  table_stride = 0;
  logit_rows.clear();
}

void forward_batch::reserve(size_t rows_max, size_t sequences_max, size_t logit_rows_max,
                            size_t blocks_max) {
  tokens.reserve(rows_max);
  positions.reserve(rows_max);
  slots.reserve(rows_max);
  row_start.reserve(sequences_max + 1);
  context.reserve(sequences_max);
  block_table.reserve(sequences_max * blocks_max);
  logit_rows.reserve(logit_rows_max);
}

namespace {

/// Lays parts one behind another, each aligned for vector loads.
class arena_layout {
public:
  template <class T>
  void part(T*& pointer, int64_t count, std::byte* base) {
    if (base)
      pointer = reinterpret_cast<T*>(base + size_);
    size_ += (static_cast<uint64_t>(count) * sizeof(T) + 63) / 64 * 64;
  }
  uint64_t size_bytes() const { return size_; }

private:
  uint64_t size_ = 0;
};

} // namespace

struct graph::layout {
  /// With a null base only the size is computed.
  static uint64_t place(graph* to, std::byte* base, const model_config& c, int64_t rows,
                        int64_t sequences, int64_t logit_rows, int64_t blocks) {
    graph* g = to;
    float* unused_float = nullptr;
    int32_t* unused_int = nullptr;
    int64_t* unused_long = nullptr;
    const auto f = [&](float* graph::*part) -> float*& { return g ? g->*part : unused_float; };
    const auto i = [&](int32_t* graph::*part) -> int32_t*& { return g ? g->*part : unused_int; };
    arena_layout parts;
    const auto rotary = std::max<int64_t>(c.head_dim, 2);
    parts.part(f(&graph::x_), rows * c.hidden_size, base);
    parts.part(f(&graph::normed_), rows * c.hidden_size, base);
    parts.part(f(&graph::q_), rows * c.q_size(), base);
    parts.part(f(&graph::k_), rows * c.kv_size(), base);
    parts.part(f(&graph::v_), rows * c.kv_size(), base);
    parts.part(f(&graph::mixed_), rows * c.q_size(), base);
    parts.part(f(&graph::gate_), rows * c.intermediate_size, base);
    parts.part(f(&graph::up_), rows * c.intermediate_size, base);
    parts.part(f(&graph::cos_), rows * rotary / 2, base);
    parts.part(f(&graph::sin_), rows * rotary / 2, base);
    parts.part(f(&graph::picked_), logit_rows * c.hidden_size, base);
    parts.part(f(&graph::logits_), logit_rows * c.vocab_size, base);
    parts.part(i(&graph::ids_), rows, base);
    parts.part(i(&graph::row_start_), sequences + 1, base);
    parts.part(i(&graph::context_), sequences, base);
    parts.part(i(&graph::table_), sequences * blocks, base);
    parts.part(i(&graph::logit_rows_), logit_rows, base);
    parts.part(g ? g->slots_ : unused_long, rows, base);
    return parts.size_bytes();
  }
};

graph::graph(const model_config& config, const model_weights& weights, gpu::device& device)
    : config_{config}, weights_{weights}, device_{device}, first_tensors_{plan_tensors(config, 0)},
      layer_tensors_{plan_tensors(config, 1) - first_tensors_}, rope_{config.rope,
                                                                      config.head_dim} {}

uint64_t graph::workspace_bytes(const model_config& config, int64_t rows_max, int64_t sequences_max,
                                int64_t blocks_max, int64_t drafts_max) {
  return layout::place(nullptr, nullptr, config, rows_max, sequences_max,
                       sequences_max + drafts_max, blocks_max);
}

caf::expected<std::unique_ptr<graph>>
graph::create(const model_config& config, const model_weights& weights, gpu::device& device,
              int64_t rows_max, int64_t sequences_max, int64_t blocks_max, int64_t drafts_max) {
  std::unique_ptr<graph> out{new graph{config, weights, device}};
  const auto size = workspace_bytes(config, rows_max, sequences_max, blocks_max, drafts_max);
  auto memory = device.allocate(size);
  if (!memory)
    return caf::make_error(errc::out_of_memory,
                           "allocating a workspace of " + std::to_string(size) + " bytes on " +
                               device.name() + ": " + describe(memory.error()));
  out->workspace_ = std::move(*memory);
  out->blocks_max_ = blocks_max;
  layout::place(out.get(), out->workspace_.as<std::byte>(), config, rows_max, sequences_max,
                sequences_max + drafts_max, blocks_max);
  return out;
}

void graph::stage(const forward_batch& batch) {
  const auto copy = [&](void* to, const auto& from) {
    device_.copy_to_device(to, from.data(), from.size() * sizeof(from[0]));
  };
  copy(ids_, batch.tokens);
  copy(slots_, batch.slots);
  copy(row_start_, batch.row_start);
  copy(context_, batch.context);
  copy(table_, batch.block_table);
  copy(logit_rows_, batch.logit_rows);
  // The angles are the same in every layer: computed once a step.
  const auto half = static_cast<size_t>(rope_.rotary_dim() / 2);
  host_cos_.resize(batch.tokens.size() * half);
  host_sin_.resize(host_cos_.size());
  for (size_t row = 0; row < batch.positions.size(); ++row)
    rope_.fill(batch.positions[row], &host_cos_[row * half], &host_sin_[row * half]);
  copy(cos_, host_cos_);
  copy(sin_, host_sin_);
}

void graph::norm(const float* x, float* out, const gpu::weight& gain, int64_t rows, int64_t cols,
                 int64_t groups) {
  gpu::rms_norm_args args;
  args.x = x;
  args.out = out;
  args.gain = gain;
  args.rows = rows;
  args.groups = groups;
  args.cols = cols;
  args.x_stride = args.out_stride = groups * cols;
  args.eps = config_.rms_norm_eps;
  device_.rms_norm(args);
}

void graph::linear(const float* x, int64_t rows, std::initializer_list<product> products) {
  std::array<gpu::linear_args, 3> group;
  auto last = group.begin();
  for (const auto& one : products) {
    auto& args = *last++;
    args.x = x;
    args.w = one.w;
    args.bias = one.bias;
    args.out = one.out;
    args.rows = rows;
    args.x_stride = one.w.cols;
    args.out_stride = one.w.rows;
    args.accumulate = one.accumulate;
  }
  device_.linear_group({group.begin(), last});
}

void graph::attention(int64_t index, const forward_batch& batch, const kv_arena& kv) {
  const auto& layer = weights_.layers[static_cast<size_t>(index)];
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  norm(x_, normed_, layer.attention_norm, rows, config_.hidden_size);
  linear(normed_, rows,
         {{layer.q, layer.q_bias, q_}, {layer.k, layer.k_bias, k_}, {layer.v, layer.v_bias, v_}});
  if (layer.q_norm) {
    norm(q_, q_, layer.q_norm, rows, config_.head_dim, config_.heads);
    norm(k_, k_, layer.k_norm, rows, config_.head_dim, config_.kv_heads);
  }
  for (const auto& [x, heads] : {std::pair{q_, config_.heads}, std::pair{k_, config_.kv_heads}})
    device_.rope({x, cos_, sin_, rows, heads, config_.head_dim, rope_.rotary_dim(),
                  heads * config_.head_dim});
  const auto cache = kv.layer(index);
  device_.kv_write({k_, v_, cache, slots_, rows, config_.kv_size(), config_.kv_size()});
  gpu::attention_args args;
  args.q = q_;
  args.cache = cache;
  args.row_start = row_start_;
  args.context = context_;
  args.block_table = table_;
  args.table_stride = batch.table_stride;
  args.sequences = static_cast<int64_t>(batch.context.size());
  args.heads = config_.heads;
  args.window = config_.windows.empty() ? 0 : config_.windows[static_cast<size_t>(index)];
  args.scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  args.out = mixed_;
  args.q_stride = args.out_stride = config_.q_size();
  args.rows = rows;
  device_.attention(args);
  linear(mixed_, rows, {{layer.o, layer.o_bias, x_, true}});
}

void graph::mlp(int64_t index, int64_t rows) {
  const auto& layer = weights_.layers[static_cast<size_t>(index)];
  norm(x_, normed_, layer.mlp_norm, rows, config_.hidden_size);
  linear(normed_, rows, {{layer.gate, layer.gate_bias, gate_}, {layer.up, layer.up_bias, up_}});
  const auto inner = config_.intermediate_size;
  device_.gated_activation(
      {gate_, up_, gate_, rows, inner, inner, inner, inner, config_.hidden_act});
  linear(gate_, rows, {{layer.down, layer.down_bias, x_, true}});
}

int64_t graph::table_stride(size_t widest) const {
  return std::min(static_cast<int64_t>(std::bit_ceil(widest)), blocks_max_);
}

/// So many of the plan's tensors have to be there for a layer, or for what comes after the last.
size_t graph::tensors_for(int64_t layer) const {
  return layer < config_.layers ? first_tensors_ + static_cast<size_t>(layer + 1) * layer_tensors_
                                : SIZE_MAX;
}

/// Of what has logits, something comes after the last layer.
int64_t graph::last_of(const forward_batch& batch) const {
  return batch.logit_rows.empty() ? config_.layers - 1 : config_.layers;
}

void graph::run_layer(int64_t index, const forward_batch& batch, const kv_arena& kv) {
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  if (index == embedding)
    return device_.embedding({weights_.embedding, ids_, x_, rows, 1.0f});
  if (index == config_.layers)
    return run_head(static_cast<int64_t>(batch.logit_rows.size()));
  attention(index, batch, kv);
  mlp(index, rows);
}

void graph::run_head(int64_t rows) {
  device_.gather_rows({x_, logit_rows_, picked_, rows, config_.hidden_size, config_.hidden_size});
  norm(picked_, picked_, weights_.final_norm, rows, config_.hidden_size);
  linear(picked_, rows, {{weights_.head, {}, logits_}});
}

void graph::run_recorded(const forward_batch& batch, const kv_arena& kv) {
  const gpu::recording_key key{this, kv.layer(0).arena, static_cast<int64_t>(batch.tokens.size()),
                               static_cast<int64_t>(batch.logit_rows.size()), batch.table_stride};
  if (device_.replay(key))
    return;
  const auto call = [&] {
    for (auto layer = embedding; layer <= last_of(batch); ++layer)
      run_layer(layer, batch, kv);
  };
  const bool is_recording = device_.begin_recording(key);
  call();
  if (is_recording && !device_.end_recording())
    call();
}

caf::expected<float*> graph::queue(const forward_batch& batch, const kv_arena& kv) {
  // With one row for each sequence, sizes say all about the ops; and steps of the same sizes follow
  // one another for as long as texts grow.
  if (batch.tokens.size() == batch.context.size() && weights_.are_there()) {
    if (auto why = weights_.wait(SIZE_MAX)) // they may have failed to come
      return why;
    stage(batch);
    run_recorded(batch, kv);
    return logits_;
  }
  stage(batch);
  for (auto layer = embedding; layer <= last_of(batch); ++layer) {
    if (auto why = weights_.wait(tensors_for(layer)))
      return why;
    run_layer(layer, batch, kv);
  }
  return logits_;
}

caf::expected<float*> graph::advance(const forward_batch& batch, const kv_arena& kv) {
  if (next_ == unstaged) {
    if (weights_.are_there())
      return queue(batch, kv);
    stage(batch);
    next_ = embedding;
  }
  for (; next_ <= last_of(batch); ++next_) {
    const auto ready = weights_.ready(tensors_for(next_));
    if (!ready)
      return ready.error();
    if (!*ready) {
      // What can be computed is computed by the time that more is there.
      if (auto why = device_.synchronize())
        return why;
      return nullptr;
    }
    run_layer(next_, batch, kv);
  }
  restart();
  return logits_;
}

caf::expected<std::span<float>> graph::run(const forward_batch& batch, const kv_arena& kv) {
  if (auto queued = queue(batch, kv); !queued)
    return queued.error();
  const auto count = batch.logit_rows.size() * static_cast<size_t>(config_.vocab_size);
  if (device_.reads_host_memory()) {
    if (auto why = device_.synchronize())
      return why;
    return std::span{logits_, count};
  }
  host_logits_.resize(count);
  device_.copy_to_host(host_logits_.data(), logits_, count * sizeof(float));
  if (auto why = device_.synchronize())
    return why;
  return std::span{host_logits_};
}

} // namespace troupe::engine
