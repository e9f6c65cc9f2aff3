#pragma once
#include <cuda_runtime.h>

#include "gpu/choose.hpp"

/// Choosing tokens where the logits are. Sums are of integers, so any number of blocks may share a
/// row and its bits stay those of the host's sampler. What needs one look at every logit (the
/// highest, the weights' masses) runs with many blocks for each row; what needs several (which
/// tokens top_k and top_p keep) with one block for each row: a radix selection (as in Alabi et al.,
/// "Fast k-selection algorithms for graphics processing units", 2012, section 3) over
/// histograms in shared memory, by count or by mass.
namespace troupe::gpu::kernels {

/// Bytes of memory that a call needs beside its arguments.
uint64_t choose_scratch_bytes(const choose_args& args);

/// `scratch` as `choose_scratch_bytes` asks, aligned to 8 bytes. Queues on `stream`, does not wait.
cudaError_t launch_choose(const choose_args& args, void* scratch, cudaStream_t stream);

} // namespace troupe::gpu::kernels
