#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "cli/bench/options.hpp"
#include "engine/engine.hpp"
#include "engine/model/model_config.hpp"
#include "gpu/profile.hpp"

namespace troupe::cli::bench {

/// What one step of a model has to do at least.
struct step_work {
  double bytes = 0, flops = 0;
};

/// A model that is ready to run on a device of its own.
struct subject {
  std::string model, dtype;
  engine::model_config config;
  std::unique_ptr<gpu::device> device;
  gpu::profiled_device* profile = nullptr; ///< `device`, when a profile is wanted
  std::unique_ptr<engine::engine> engine;
  uint64_t weight_bytes = 0; ///< that a decode step reads
  uint64_t kv_token_bytes = 0;

  /// One row for each of `batch` sequences, each `context` tokens long with the new one.
  step_work decode_work(uint32_t batch, double context) const;
  /// A prompt of `tokens`, in steps of at most `step_tokens`, and one row of logits.
  step_work prefill_work(uint32_t tokens, uint32_t step_tokens) const;
  /// Which compute ceilings count: those for products of the type that is kept.
  std::string arithmetic() const;
};

/// A shape, or the files of a model.
struct model_choice {
  std::string title; ///< the shape's name, or the last part of the path
  std::string path;  ///< of a model directory or a GGUF file; empty = a shape
};
/// What was typed for a model; fails saying what there is.
caf::expected<model_choice> choose(const std::string& model);

/// Makes the device that the options ask for. Fails with gpu::errc::unavailable or
/// actors::errc::invalid_options if there is no such device.
caf::expected<std::unique_ptr<gpu::device>> make_device(const options& given);

/// N of a device "cuda:N"; none for others.
std::optional<int> cuda_ordinal(const std::string& device);

/// Loads the model in `dtype` with room for the largest batch and the longest context of `given`.
/// Fails before anything is allocated if it does not fit in the memory that is free, saying what
/// is needed.
caf::expected<subject> make_subject(const options& given, const model_choice& model,
                                    const std::string& dtype);

/// The engine options of such a subject; `kv_token_bytes` = bytes of one token's keys and values.
engine::engine_options engine_options_of(const options& given, const std::string& dtype,
                                         uint64_t kv_token_bytes);
/// The quantization that a dtype stands for.
engine::quantization quantization_of(const std::string& dtype);
/// The type of a shape's tensors for a dtype; quantized ones are made of bf16.
dtype stored_type(const std::string& dtype);

} // namespace troupe::cli::bench
