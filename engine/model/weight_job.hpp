#pragma once
#include <cstddef>
#include <cstdint>
#include <stop_token>

#include "engine/engine.hpp"
#include "engine/model/weight_twins.hpp"
#include "gpu/device.hpp"

namespace troupe::engine {

/// A weight whose place is known, but whose bytes are not there yet.
struct weight_job {
  weight_view from;
  gpu::weight to;
  void* memory = nullptr; ///< the place on the device; null = `to` is used where it lies
  size_t tensors = 0;     ///< of the plan that are complete with this job
  bool last_use = true;   ///< nobody reads `from` after it
  /// Set where the weight is copied from another device, and `from` is not looked at: it lies there
  /// as it is to lie here. Both last as long as the job.
  const weight_twins::loan* loan = nullptr;
  const void* twin = nullptr;

  uint64_t size_bytes() const; ///< of what it makes
};

/// Waits for the bytes of a job and brings them to their place, piece by piece as they come, so
/// that they are never in memory twice. `queue` = the device, or another queue of it; what it wrote
/// is there when this returns, unless it was stopped. Fails with what the checkpoint fails with, if
/// the device does, or with no_twin if what is copied from another device is called back.
caf::error run_job(const weight_job& job, gpu::device& queue, const std::stop_token& stop = {});

} // namespace troupe::engine
