#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"
#include "engine/model/weight_feeder.hpp"
#include "engine/model/weight_twins.hpp"
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

  /// The same from a device that has them: what lies in memory of that device's own is copied to
  /// memory of this one's, on its second queue if it has one, in the order of the plan; what is
  /// used in place is used there too. The loan goes when all is copied. Fails with no_twin if these
  /// are not the weights that `config` asks for, and so does the copying when they are called back.
  static caf::expected<std::unique_ptr<model_weights>>
  copy(const model_config& config, std::shared_ptr<const weight_twins::loan> twin,
       gpu::device& device, std::function<void()> news = {});

  /// Lets other devices copy these, from when all are there; to be called once. Nobody but `device`
  /// does anything with it. They keep `keep_alive`, which what is used in place lies in.
  void offer(weight_twins& to, twin_name name, const gpu::device& device,
             std::shared_ptr<const void> keep_alive, std::function<void()> returned);
  /// Whether another device is copying them: until it has, destroying them blocks.
  bool is_lent() const { return offer_ && offer_->is_lent(); }
  /// Of the device's memory that they lie in: what is not used in place.
  uint64_t own_bytes() const;

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
  friend class twin_copier;
  caf::error fill(std::vector<weight_job> jobs, gpu::device& device, std::function<void()> news,
                  std::shared_ptr<const weight_twins::loan> loan = nullptr);

  std::shared_ptr<const void> lies_in_; ///< what a twin's keep_alive was
  std::vector<gpu::buffer> memory_;
  std::unique_ptr<weight_feeder> feeder_;      ///< behind the memory, which its thread writes to
  std::unique_ptr<weight_twins::offer> offer_; ///< last: others read the memory until it is gone
};

/// What an engine of `options` binds: the checkpoint's weights or, without a `lookup`, those of a
/// twin among `twins`; then fails with no_twin if there is none (any more). Offers them there,
/// where `checkpoint` names them. See `engine::create`.
caf::expected<std::unique_ptr<model_weights>>
place_weights(const model_config& config, const weight_lookup& lookup,
              const std::string& checkpoint, std::shared_ptr<const void> keep_alive,
              gpu::device& device, const engine_options& options, weight_twins* twins);

} // namespace troupe::engine
