#include "engine/model/weights.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "engine/errors.hpp"

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

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

/// Looks tensors up one by one and stops caring after the first failure.
class binder {
public:
  binder(const weight_lookup& lookup, gpu::device& device, std::vector<gpu::buffer>& copies)
      : lookup_{lookup}, device_{device}, copies_{copies} {}

  /// `keep` = the type to keep the tensor in; none = its own. Matrices take the device's layout,
  /// unless they are only looked up.
  gpu::weight operator()(const weight_spec& want, std::optional<dtype> keep = {},
                         bool looked_up = false) {
    if (error_)
      return {};
    const auto found = lookup_(want.name);
    if (!found) {
      error_ = caf::make_error(errc::missing_tensor, "the checkpoint has no tensor " + want.name +
                                                         ", which its config.json asks for");
      return {};
    }
    if (found->shape != want.shape) {
      error_ = caf::make_error(errc::wrong_tensor,
                               "tensor " + want.name + " has shape " + shape_text(found->shape) +
                                   ", but config.json asks for " + shape_text(want.shape));
      return {};
    }
    if (found->type != dtype::f32 && found->type != dtype::f16 && found->type != dtype::bf16) {
      error_ = caf::make_error(errc::wrong_tensor, "tensor " + want.name + " holds " +
                                                       std::string{to_string(found->type)} +
                                                       ", but weights must be f32, f16 or bf16");
      return {};
    }
    const auto type = keep.value_or(found->type);
    const bool laid_out = !looked_up && want.shape.size() == 2 &&
                          want.shape[1] % int64_t{block_elements} == 0 &&
                          device_.best_layout(type) != gpu::weight_layout::rows;
    return type != found->type || laid_out ? converted(want, *found, type) : place(want, *found);
  }

  const caf::error& error() const { return error_; }
  uint64_t size_bytes() const { return size_bytes_; }

private:
  caf::expected<gpu::buffer> allocate(const weight_spec& want, size_t bytes) {
    auto out = device_.allocate(bytes);
    if (!out)
      return caf::make_error(errc::out_of_memory,
                             "placing tensor " + want.name + " (" + std::to_string(bytes) +
                                 " bytes) on " + device_.name() + ": " + describe(out.error()));
    return out;
  }

  gpu::weight converted(const weight_spec& want, const weight_view& found, dtype to) {
    gpu::weight from{found.data, found.type, want.shape[0], want.shape[1]};
    const auto elements = static_cast<uint64_t>(from.rows * from.cols);
    const auto bytes = bytes_of(to, elements);
    auto blocks = allocate(want, bytes);
    gpu::buffer staged;
    if (blocks && !device_.reads_host_memory()) {
      auto copy = allocate(want, bytes_of(found.type, elements));
      if (!copy)
        blocks = copy.error();
      else
        staged = std::move(*copy);
    }
    if (!blocks) {
      error_ = blocks.error();
      return {};
    }
    if (staged) {
      device_.copy_to_device(staged.data(), found.data, staged.size_bytes());
      from.data = staged.data();
    }
    const auto layout = device_.best_layout(to);
    device_.quantize({from, blocks->data(), to, layout});
    if (auto why = device_.synchronize())
      error_ = why;
    if (found.drop)
      found.drop(found.data, bytes_of(found.type, elements));
    size_bytes_ += bytes;
    gpu::weight out{blocks->data(), to, from.rows, from.cols, layout};
    copies_.push_back(std::move(*blocks));
    return out;
  }

  gpu::weight place(const weight_spec& want, const weight_view& found) {
    gpu::weight out{found.data, found.type, want.shape.size() == 1 ? 1 : want.shape[0],
                    want.shape.back()};
    const auto bytes = static_cast<size_t>(out.rows * out.cols) * size_of(out.type);
    size_bytes_ += bytes;
    const auto address = reinterpret_cast<uintptr_t>(found.data);
    if (device_.reads_host_memory() && address % size_of(out.type) == 0)
      return out;
    auto copy = allocate(want, bytes);
    if (!copy) {
      error_ = copy.error();
      return {};
    }
    device_.copy_to_device(copy->data(), found.data, bytes);
    out.data = copy->data();
    copies_.push_back(std::move(*copy));
    return out;
  }

  const weight_lookup& lookup_;
  gpu::device& device_;
  std::vector<gpu::buffer>& copies_;
  caf::error error_;
  uint64_t size_bytes_ = 0;
};

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

} // namespace

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

caf::expected<std::unique_ptr<model_weights>> model_weights::bind(const model_config& config,
                                                                  const weight_lookup& lookup,
                                                                  gpu::device& device,
                                                                  quantization quantize) {
  auto out = std::make_unique<model_weights>();
  binder get{lookup, device, out->copies_};
  const auto head = kept_type(quantize, config.hidden_size, true);
  out->embedding = get(embedding_spec(config), {}, head || !config.tied_embeddings);
  const auto rows = layer_rows(config);
  for (int64_t i = 0; i < config.layers && !get.error(); ++i) {
    auto& layer = out->layers.emplace_back();
    for (const auto& row : rows)
      layer.*row.to =
          get(spec(layer_name(i, row.name), row.rows, row.cols), kept_type(quantize, row.cols));
  }
  out->final_norm = get(final_norm_spec(config));
  // A tied head is read whole for every token, the embedding only where it is looked up: a copy of
  // its own in blocks pays.
  if (!config.tied_embeddings)
    out->head = get(head_spec(config), head);
  else
    out->head = head ? get(embedding_spec(config), head) : out->embedding;
  if (get.error())
    return get.error();
  // Copies may still be under way, and what they read from is the caller's.
  if (auto why = device.synchronize())
    return why;
  out->size_bytes = get.size_bytes();
  return out;
}

} // namespace troupe::engine
