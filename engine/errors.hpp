#pragma once
#include <cstdint>

#include "base/error.hpp"

namespace troupe::engine {

/// What can go wrong with a model or with a request to it. Append only: the numbers travel between
/// nodes.
enum class errc : uint8_t {
  /// A request that can never run: a parameter out of range, no tokens, longer than the context.
  invalid_argument = 1,
  /// config.json or generation_config.json does not say what it must, or contradicts itself.
  invalid_config,
  /// A well-formed model that this engine cannot run (architecture, scaling, quantization).
  unsupported,
  /// The checkpoint lacks a tensor that the config asks for.
  missing_tensor,
  /// A tensor has another shape or element type than the config asks for.
  wrong_tensor,
  /// The device cannot hold the model, its KV arena or its workspace.
  out_of_memory,
  /// The model computed NaN or infinity: its weights are damaged.
  bad_numbers,
  /// A file of the model is absent or cannot be read.
  unreadable,
  /// A newer dispatch of the same sequence is here already.
  stale,
  /// The engine's own queue is full.
  busy,
  /// The device that the weights were to be copied from has them no more, or other ones: they have
  /// to come from the checkpoint.
  no_twin,
};

} // namespace troupe::engine

CAF_ERROR_CODE_ENUM(troupe::engine::errc, "engine")
