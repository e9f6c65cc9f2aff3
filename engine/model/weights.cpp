#include "engine/model/weights.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "engine/errors.hpp"
#include "engine/model/weight_binder.hpp"

namespace troupe::engine {

namespace {

using slot = gpu::weight layer_weights::*;

/// One tensor of a layer: where it goes, what it is called, its shape (cols 0 = a vector).
struct layer_row {
  slot to;
  std::string_view name;
  int64_t rows;
  int64_t cols;
};

/// The one description of a layer that plan and binding share.
std::vector<layer_row> layer_rows(const model_config& c) {
  using w = layer_weights;
  const auto hidden = c.hidden_size, inter = c.intermediate_size, q = c.q_size(), kv = c.kv_size();
  std::vector<layer_row> rows{
      {&w::attention_norm, "input_layernorm.weight", hidden, 0},
      {&w::q, "self_attn.q_proj.weight", q, hidden},
      {&w::k, "self_attn.k_proj.weight", kv, hidden},
      {&w::v, "self_attn.v_proj.weight", kv, hidden},
      {&w::o, "self_attn.o_proj.weight", hidden, q},
      {&w::mlp_norm, "post_attention_layernorm.weight", hidden, 0},
      {&w::gate, "mlp.gate_proj.weight", inter, hidden},
      {&w::up, "mlp.up_proj.weight", inter, hidden},
      {&w::down, "mlp.down_proj.weight", hidden, inter},
  };
  if (c.qkv_bias) {
    rows.push_back({&w::q_bias, "self_attn.q_proj.bias", q, 0});
    rows.push_back({&w::k_bias, "self_attn.k_proj.bias", kv, 0});
    rows.push_back({&w::v_bias, "self_attn.v_proj.bias", kv, 0});
  }
  if (c.output_bias)
    rows.push_back({&w::o_bias, "self_attn.o_proj.bias", hidden, 0});
  if (c.qk_norm) {
    rows.push_back({&w::q_norm, "self_attn.q_norm.weight", c.head_dim, 0});
    rows.push_back({&w::k_norm, "self_attn.k_norm.weight", c.head_dim, 0});
  }
  if (c.mlp_bias) {
    rows.push_back({&w::gate_bias, "mlp.gate_proj.bias", inter, 0});
    rows.push_back({&w::up_bias, "mlp.up_proj.bias", inter, 0});
    rows.push_back({&w::down_bias, "mlp.down_proj.bias", hidden, 0});
  }
  return rows;
}

std::string layer_name(int64_t layer, std::string_view name) {
  return "model.layers." + std::to_string(layer) + "." + std::string{name};
}

weight_spec spec(std::string name, int64_t rows, int64_t cols) {
  weight_spec out{std::move(name), {rows}};
  if (cols)
    out.shape.push_back(cols);
  return out;
}

weight_spec embedding_spec(const model_config& c) {
  return spec("model.embed_tokens.weight", c.vocab_size, c.hidden_size);
}
weight_spec final_norm_spec(const model_config& c) {
  return spec("model.norm.weight", c.hidden_size, 0);
}
weight_spec head_spec(const model_config& c) {
  return spec("lm_head.weight", c.vocab_size, c.hidden_size);
}

/// What a linear weight of that shape is kept in.
std::optional<dtype> kept_type(quantization quantize, int64_t cols, bool is_head = false) {
  if (quantize == quantization::none || cols == 0 || cols % int64_t{block_elements} != 0)
    return std::nullopt;
  return quantize == quantization::int4 && !is_head ? dtype::q4_0 : dtype::q8_0;
}

gpu::weight layer_weight(weight_binder& get, const weight_spec& want, std::optional<dtype> keep) {
  return want.shape.size() == 2 ? get.linear(want, keep) : get.plain(want);
}

/// The type that a device has a tensor in that the checkpoint has in `from`; null = takes all.
dtype type_taken(dtype from, const gpu::device* device) {
  return is_blocks(from) && device != nullptr && !device->takes(from) ? dtype::bf16 : from;
}

/// Whether a tied head is kept apart from the embedding, in blocks of fewer bits: it is read whole
/// for every token, the embedding only where it is looked up.
bool head_is_apart(const model_config& config, const weight_lookup& lookup,
                   const gpu::device* device, std::optional<dtype> keep) {
  const auto found = lookup(embedding_spec(config).name);
  if (!config.tied_embeddings || !found)
    return false;
  const auto taken = type_taken(found->type, device);
  return type_kept(taken, keep) != taken;
}

} // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

uint64_t quantized_bytes(const model_config& config, dtype type, quantization quantize) {
  const auto bytes = [&](int64_t rows, int64_t cols, std::optional<dtype> keep) {
    return bytes_of(keep.value_or(type), static_cast<uint64_t>(rows * std::max<int64_t>(cols, 1)));
  };
  const auto vocabulary = config.vocab_size, hidden = config.hidden_size;
  const auto head = kept_type(quantize, hidden, true);
  auto out = bytes(vocabulary, hidden, {}) + bytes(hidden, 0, {});
  if (head || !config.tied_embeddings)
    out += bytes(vocabulary, hidden, head);
  for (const auto& row : layer_rows(config))
    out += static_cast<uint64_t>(config.layers) *
           bytes(row.rows, row.cols, kept_type(quantize, row.cols));
  return out;
}

uint64_t kept_bytes(const model_config& config, const weight_lookup& lookup, quantization quantize,
                    const gpu::device* device) {
  uint64_t out = 0;
  const auto add = [&](const weight_spec& want, std::optional<dtype> keep) {
    const auto found = lookup(want.name);
    if (!found)
      return;
    uint64_t elements = 1;
    for (const auto extent : want.shape)
      elements *= static_cast<uint64_t>(extent);
    out += bytes_of(type_kept(type_taken(found->type, device), keep), elements);
  };
  add(embedding_spec(config), {});
  for (int64_t i = 0; i < config.layers; ++i)
    for (const auto& row : layer_rows(config))
      add(spec(layer_name(i, row.name), row.rows, row.cols), kept_type(quantize, row.cols));
  add(final_norm_spec(config), {});
  const auto head = kept_type(quantize, config.hidden_size, true);
  if (!config.tied_embeddings)
    add(head_spec(config), head);
  else if (head_is_apart(config, lookup, device, head))
    add(embedding_spec(config), head);
  return out;
}

std::vector<weight_spec> weight_plan(const model_config& config) {
  std::vector<weight_spec> plan{embedding_spec(config)};
  const auto rows = layer_rows(config);
  for (int64_t i = 0; i < config.layers; ++i)
    for (const auto& row : rows)
      plan.push_back(spec(layer_name(i, row.name), row.rows, row.cols));
  plan.push_back(final_norm_spec(config));
  if (!config.tied_embeddings)
    plan.push_back(head_spec(config));
  return plan;
}

size_t plan_tensors(const model_config& config, int64_t layers) {
  return 1 + static_cast<size_t>(layers) * layer_rows(config).size();
}

caf::expected<std::unique_ptr<model_weights>>
model_weights::bind(const model_config& config, const weight_lookup& lookup, gpu::device& device,
                    quantization quantize, std::function<void()> news) {
  auto out = std::make_unique<model_weights>();
  weight_binder get{lookup, device, out->memory_};
  const auto head = kept_type(quantize, config.hidden_size, true);
  const bool apart = head_is_apart(config, lookup, &device, head);
  const bool shared = config.tied_embeddings && !apart;
  out->embedding =
      shared ? get.linear(embedding_spec(config), {}) : get.plain(embedding_spec(config));
  // At once, while the bytes are there.
  if (apart)
    out->head = get.linear(embedding_spec(config), head);
  const auto rows = layer_rows(config);
  for (int64_t i = 0; i < config.layers && !get.error(); ++i) {
    auto& layer = out->layers.emplace_back();
    for (const auto& row : rows)
      layer.*row.to = layer_weight(get, spec(layer_name(i, row.name), row.rows, row.cols),
                                   kept_type(quantize, row.cols));
  }
  out->final_norm = get.plain(final_norm_spec(config));
  if (shared)
    out->head = out->embedding;
  else if (!apart)
    out->head = get.linear(head_spec(config), head);
  if (get.error())
    return get.error();
  out->size_bytes = get.size_bytes();
  if (auto why = out->fill(get.take_jobs(), device, std::move(news)))
    return why;
  return out;
}

caf::error model_weights::fill(std::vector<weight_job> jobs, gpu::device& device,
                               std::function<void()> news,
                               std::shared_ptr<const weight_twins::loan> loan) {
  // What was copied may still be under way, and what it is read from is the caller's; and the
  // places are the first queue's until it is through with whatever they were before.
  if (auto why = device.synchronize())
    return why;
  if (jobs.empty())
    return {};
  if (auto queue = device.second_queue()) {
    feeder_ = std::make_unique<weight_feeder>(std::move(jobs), std::move(queue), std::move(news),
                                              std::move(loan));
    return {};
  }
  for (const auto& job : jobs)
    if (auto why = run_job(job, device))
      return why;
  return {};
}

/// Gives each weight of a twin its place on a device. Stops caring after the first failure.
class twin_copier {
public:
  twin_copier(const weight_twins::loan& loan, gpu::device& device, model_weights& to)
      : loan_{loan}, device_{device}, to_{to} {}

  /// The twin's `from`, which is to be the tensor `want`; one that is kept in two forms, twice in a
  /// row.
  gpu::weight take(const weight_spec& want, const gpu::weight& from) {
    if (want.name != std::exchange(last_name_, want.name))
      ++tensors_;
    const auto rows = want.shape.size() == 1 ? 1 : want.shape[0];
    if (!error && (!from || from.rows != rows || from.cols != want.shape.back()))
      error = other_weights();
    if (error)
      return {};
    weight_job job{.from = {}, .to = from, .tensors = tensors_};
    to_.size_bytes += job.size_bytes();
    const auto& theirs = loan_.weights().memory_;
    if (std::ranges::find(theirs, from.data, &gpu::buffer::data) == theirs.end())
      return from; // in place
    auto memory = device_.allocate(job.size_bytes());
    if (!memory) {
      error = caf::make_error(errc::out_of_memory, "copying tensor " + want.name + " to " +
                                                       device_.name() + ": " +
                                                       describe(memory.error()));
      return {};
    }
    job.memory = memory->data();
    job.to.data = job.memory;
    job.loan = &loan_;
    job.twin = from.data;
    to_.memory_.push_back(std::move(*memory));
    jobs.push_back(job);
    return job.to;
  }
  static caf::error other_weights() {
    return caf::make_error(errc::no_twin, "another device has other weights by this name");
  }

  std::vector<weight_job> jobs;
  caf::error error;

private:
  const weight_twins::loan& loan_;
  gpu::device& device_;
  model_weights& to_;
  std::string last_name_;
  size_t tensors_ = 0;
};

caf::expected<std::unique_ptr<model_weights>>
model_weights::copy(const model_config& config, std::shared_ptr<const weight_twins::loan> twin,
                    gpu::device& device, std::function<void()> news) {
  auto out = std::make_unique<model_weights>();
  const auto& from = twin->weights();
  twin_copier get{*twin, device, *out};
  if (static_cast<int64_t>(from.layers.size()) != config.layers)
    return twin_copier::other_weights();
  out->lies_in_ = twin->keep_alive();
  out->embedding = get.take(embedding_spec(config), from.embedding);
  const bool shared = config.tied_embeddings && from.head.data == from.embedding.data;
  if (config.tied_embeddings && !shared)
    out->head = get.take(embedding_spec(config), from.head);
  const auto rows = layer_rows(config);
  for (int64_t i = 0; i < config.layers; ++i) {
    const auto& theirs = from.layers[static_cast<size_t>(i)];
    auto& layer = out->layers.emplace_back();
    for (const auto& row : rows)
      layer.*row.to = get.take(spec(layer_name(i, row.name), row.rows, row.cols), theirs.*row.to);
  }
  out->final_norm = get.take(final_norm_spec(config), from.final_norm);
  if (shared)
    out->head = out->embedding;
  else if (!config.tied_embeddings)
    out->head = get.take(head_spec(config), from.head);
  if (get.error)
    return get.error;
  if (auto why = out->fill(std::move(get.jobs), device, std::move(news), std::move(twin)))
    return why;
  return out;
}

void model_weights::offer(weight_twins& to, twin_name name, const gpu::device& device,
                          std::shared_ptr<const void> keep_alive, std::function<void()> returned) {
  offer_ = to.put(*this, std::move(name), device.home(),
                  lies_in_ ? lies_in_ : std::move(keep_alive), std::move(returned));
}

uint64_t model_weights::own_bytes() const {
  uint64_t out = 0;
  for (const auto& one : memory_)
    out += one.size_bytes();
  return out;
}

caf::expected<std::unique_ptr<model_weights>>
place_weights(const model_config& config, const weight_lookup& lookup,
              const std::string& checkpoint, std::shared_ptr<const void> keep_alive,
              gpu::device& device, const engine_options& options, weight_twins* twins) {
  const twin_name name{checkpoint, options.quantize};
  caf::expected<std::unique_ptr<model_weights>> out{nullptr};
  if (lookup)
    out = model_weights::bind(config, lookup, device, options.quantize, options.on_weights);
  else if (auto twin = twins != nullptr ? twins->lend(name, device.home()) : nullptr)
    out = model_weights::copy(config, std::move(twin), device, options.on_weights);
  else
    return caf::make_error(errc::no_twin, "no other device has these weights any more");
  if (out && twins != nullptr && !checkpoint.empty())
    (*out)->offer(*twins, name, device, std::move(keep_alive), options.on_weights);
  return out;
}

} // namespace troupe::engine
