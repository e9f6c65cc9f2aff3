#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"
#include "engine/model/weight_feeder.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// A tensor that a model needs, by its Hugging Face name.
struct weight_spec {
  std::string name;
  std::vector<int64_t> shape;
};

/// "[3, 4]", for messages.
std::string shape_text(const std::vector<int64_t>& shape);

/// Every tensor that `config` asks for: embedding, then layer by layer, then the head. With tied
/// embeddings there is no head of its own.
std::vector<weight_spec> weight_plan(const model_config& config);

/// So many tensors at the plan's beginning are needed to run the first `layers` layers.
size_t plan_tensors(const model_config& config, int64_t layers);

/// Bytes of the weights as `model_weights` keeps them, for a checkpoint of elements of `type`.
uint64_t quantized_bytes(const model_config& config, dtype type, quantization quantize);

/// The same for a checkpoint that can be asked, on `device`, or, if null, on one that takes every
/// type; tensors that it lacks count nothing.
uint64_t kept_bytes(const model_config& config, const weight_lookup& lookup, quantization quantize,
                    const gpu::device* device = nullptr);

/// The weights of one decoder layer; biases and q/k norms may be empty.
struct layer_weights {
  gpu::weight attention_norm;
  gpu::weight q, k, v, o;
  gpu::weight q_bias, k_bias, v_bias, o_bias;
  gpu::weight q_norm, k_norm;
  gpu::weight mlp_norm;
  gpu::weight gate, up, down;
  gpu::weight gate_bias, up_bias, down_bias;
};

/// All weights of a model, where a device can read them.
class model_weights {
public:
  /// Finds and checks every tensor of the plan. Host memory is used in place where the device reads
  /// it and the tensor is aligned to its element; otherwise it is copied to the device, or made
  /// there if it must be (see `weight_view`); blocks that the device does not take become bf16.
  /// Fails with missing_tensor or wrong_tensor (naming it, what was found and what was expected),
  /// or when the device is out of memory. Matrices for which the device has a layout of its own are
  /// copied into it, one tensor at a time, and the pages they came from are dropped. With
  /// `quantize` the linear weights whose rows are whole blocks are copied in blocks, likewise, but
  /// for those that the checkpoint has in blocks of no more bits. Where bytes are still on their
  /// way, all places are known when this returns, but the bytes are there only after `wait`; `news`
  /// as `engine_options::on_weights`.
  static caf::expected<std::unique_ptr<model_weights>>
  bind(const model_config& config, const weight_lookup& lookup, gpu::device& device,
       quantization quantize = quantization::none, std::function<void()> news = {});

  /// Blocks until the first `tensors` tensors of the plan are there; fails if the load did. May be
  /// called by any thread, as the next three.
  caf::error wait(size_t tensors) const { return feeder_ ? feeder_->wait(tensors) : caf::error{}; }
  /// The same without waiting: false if they are not; `news` is called when they are.
  caf::expected<bool> ready(size_t tensors) const {
    return feeder_ ? feeder_->ready(tensors) : caf::expected<bool>{true};
  }
  bool are_there() const { return !feeder_ || feeder_->is_over(); }
  weight_state state() const { return feeder_ ? feeder_->state() : weight_state{}; }

  gpu::weight embedding;
  std::vector<layer_weights> layers;
  gpu::weight final_norm;
  gpu::weight head;        ///< the embedding itself when tied and not quantized
  uint64_t size_bytes = 0; ///< of the tensors, in place or copied

private:
  caf::error fill(std::vector<weight_job> jobs, gpu::device& device, std::function<void()> news);

  std::vector<gpu::buffer> memory_;
  std::unique_ptr<weight_feeder> feeder_; ///< last: its thread writes to the memory
};

} // namespace troupe::engine
