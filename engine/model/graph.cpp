#include "engine/model/graph.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "gpu/choose.hpp"

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
  /// With a null graph only the size is computed.
  static uint64_t place(graph* to, std::byte* base, const model_config& c, const step_size& size) {
    arena_layout parts;
    const auto part = [&](auto graph::*pointer, int64_t count) {
      std::remove_reference_t<decltype(to->*pointer)> unused = nullptr;
      parts.part(to != nullptr ? to->*pointer : unused, count, base);
    };
    const auto rotary = std::max<int64_t>(c.head_dim, 2);
    part(&graph::scratch_, static_cast<int64_t>(size.scratch_bytes)); // as aligned as all of it
    part(&graph::x_, size.rows * c.hidden_size);
    part(&graph::normed_, size.rows * c.hidden_size);
    part(&graph::q_, size.rows * c.q_size());
    part(&graph::k_, size.rows * c.kv_size());
    part(&graph::v_, size.rows * c.kv_size());
    part(&graph::mixed_, size.rows * c.q_size());
    part(&graph::gate_, size.rows * c.intermediate_size);
    part(&graph::up_, size.rows * c.intermediate_size);
    part(&graph::cos_, size.rows * rotary / 2);
    part(&graph::sin_, size.rows * rotary / 2);
    part(&graph::picked_, size.logit_rows * c.hidden_size);
    part(&graph::logits_, size.logit_rows * c.vocab_size);
    part(&graph::ids_, size.rows);
    part(&graph::row_start_, size.sequences + 1);
    part(&graph::context_, size.sequences);
    part(&graph::table_, size.sequences * size.blocks);
    part(&graph::logit_rows_, size.logit_rows);
    part(&graph::slots_, size.rows);
    part(&graph::choice_room_, static_cast<int64_t>(size.choice_bytes));
    return parts.size_bytes();
  }
};

graph::graph(const model_config& config, const model_weights& weights, gpu::device& device,
             const step_size& largest)
    : config_{config}, weights_{weights}, device_{device}, first_tensors_{plan_tensors(config, 0)},
      layer_tensors_{plan_tensors(config, 1) - first_tensors_}, largest_{largest},
      rope_{config.rope, config.head_dim} {}

graph::~graph() {
  device_.forget_recordings(this);
  if (work_)
    work_->leave(*this);
}

uint64_t graph::workspace_bytes(const model_config& config, const step_size& largest) {
  return layout::place(nullptr, nullptr, config, largest);
}

uint64_t graph::scratch_bytes(const model_config& c, const step_size& largest, int64_t block_size,
                              const gpu::device& device) {
  uint64_t out = 0;
  const auto count = [&](const auto& args) { out = std::max(out, device.scratch_bytes(args)); };
  const auto product = [&](int64_t rows, int64_t n, int64_t k) {
    gpu::linear_args args;
    args.rows = rows;
    args.w.rows = args.out_stride = n;
    args.w.cols = args.x_stride = k;
    count(args);
  };
  for (const auto n : {c.q_size(), c.kv_size(), c.intermediate_size})
    product(largest.rows, n, c.hidden_size);
  for (const auto k : {c.q_size(), c.intermediate_size})
    product(largest.rows, c.hidden_size, k);
  product(largest.logit_rows, c.vocab_size, c.hidden_size);
  gpu::attention_args attention;
  attention.rows = largest.rows;
  attention.sequences = largest.sequences;
  attention.table_stride = largest.blocks;
  attention.heads = c.heads;
  attention.cache.kv_heads = c.kv_heads;
  attention.cache.head_dim = c.head_dim;
  attention.cache.block_size = block_size;
  count(attention);
  gpu::choose_args choices;
  choices.rows = largest.logit_rows;
  choices.vocabulary = choices.stride = c.vocab_size;
  count(choices);
  return out;
}

caf::expected<std::unique_ptr<graph>> graph::create(const model_config& config,
                                                    const model_weights& weights,
                                                    gpu::device& device, const step_size& largest,
                                                    std::shared_ptr<workspace> work) {
  std::unique_ptr<graph> out{new graph{config, weights, device, largest}};
  if (!work)
    work = std::make_shared<workspace>(device);
  if (auto why = work->join(*out, out->workspace_bytes()))
    return why;
  out->work_ = std::move(work);
  return out;
}

caf::error graph::enter() {
  const auto base = work_->take(*this);
  if (!base)
    return base.error();
  layout::place(this, *base, config_, largest_);
  device_.lend_scratch(scratch_, largest_.scratch_bytes);
  return {};
}

void graph::put_aside() {
  if (next_ <= embedding)
    return;
  held_.resize(staged_ * static_cast<size_t>(config_.hidden_size));
  device_.copy_to_host(held_.data(), x_, held_.size() * sizeof(float));
  // If it fails, the device has failed for good, and every later step says so.
  static_cast<void>(device_.synchronize());
}

/// Others may have used the workspace while the batch was held.
caf::error graph::come_back(const forward_batch& batch) {
  if (work_->is_left_to(*this))
    return {};
  if (auto why = enter())
    return why;
  stage(batch);
  device_.copy_to_device(x_, held_.data(), held_.size() * sizeof(float));
  held_ = {};
  return {};
}

void graph::stage(const forward_batch& batch) {
  staged_ = batch.tokens.size();
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
  return std::min(static_cast<int64_t>(std::bit_ceil(widest)), largest_.blocks);
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
  if (auto why = enter())
    return why;
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
    if (auto why = enter())
      return why;
    stage(batch);
    next_ = embedding;
  } else if (auto why = come_back(batch)) {
    return why;
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
