#pragma once
#include <memory>

#include "delayed_copies.hpp"
#include "emulated_graph.hpp"

/// Ops run when they are queued, unless the stream records them, or pinned memory or that of
/// another device is copied from.
struct emulated_stream {
  std::shared_ptr<troupe::cuda_emulation::delayed_copies> copies =
      troupe::cuda_emulation::begin_stream();
  std::unique_ptr<emulated_graph> recorded;
  bool is_invalid = false; ///< something happened that cannot be recorded
  const int device = troupe::cuda_emulation::current_device();
};
