#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace troupe::gpu {

/// How much a probe of a CUDA device moves and multiplies. The defaults fill an H100 for long
/// enough; all of it is rounded to what the kernels take.
struct cuda_probe_sizes {
  uint64_t memory_bytes = uint64_t{1} << 30; ///< read and copied in the device's memory
  uint64_t host_bytes = uint64_t{1} << 28;   ///< pinned, copied to the device and back; on others
  int64_t product_side = 8192;               ///< of the square matrices
  int64_t product_steps = 1 << 14;           ///< matrix instructions in a row of each warp
  int reps = 5;
};

/// One thing that a CUDA device can do, at its best of some repetitions.
struct cuda_rate {
  std::string name;      ///< "copy in memory", "bf16 products"
  std::string how;       ///< "cudaMemcpyAsync, read and written bytes"
  double per_second = 0; ///< bytes, or operations (a product and a sum are two)
};

/// Ceilings of a CUDA device, found by doing nothing else on it.
struct cuda_rates {
  std::vector<cuda_rate> memory;  ///< bytes of its own memory, read plus written
  std::vector<cuda_rate> compute; ///< products with float sums: bf16; on Hopper also 8-bit floats
  /// Bytes between pinned host memory and the device, and from another device if there is one.
  std::vector<cuda_rate> link;
  std::string missing; ///< what could not be measured, and why; empty = nothing
};

/// Takes about a second and the memory above. Fails with errc::unavailable without such a device,
/// errc::device_failed if it fails.
caf::expected<cuda_rates> measure_cuda(int ordinal, const cuda_probe_sizes& sizes = {});

} // namespace troupe::gpu
