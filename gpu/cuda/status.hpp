#pragma once
#include <cuda_runtime.h>

#include <string>

#include "base/error.hpp"

namespace troupe::gpu::cuda {

/// "allocating 12 bytes on cuda:0: cudaErrorMemoryAllocation (out of memory)": `doing` says what.
std::string failure_text(cudaError_t status, const std::string& doing);

/// Why no CUDA device can be used, and what to do about it; errc::unavailable.
caf::error unavailable(cudaError_t status);

} // namespace troupe::gpu::cuda
