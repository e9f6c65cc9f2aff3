#pragma once
#include <cuda_runtime.h>

#include <cstdint>

/// Kernels that do one thing as fast as the device can: what others are measured against.
namespace troupe::gpu::kernels {

/// Reads `bytes` (rounded down to 16) at `from` once and keeps nothing; `sink` is one word that is
/// written if chance wants it, so that the reads stay.
cudaError_t launch_read_probe(const void* from, uint64_t bytes, uint32_t* sink, int processors,
                              cudaStream_t stream);

/// `steps` rounds of `product_chains` matrix instructions in registers, in `blocks` blocks.
cudaError_t launch_product_probe(int64_t steps, int blocks, float* sink, cudaStream_t stream);

/// Operations of such a launch: products and sums.
double product_probe_ops(int64_t steps, int blocks);

/// Fills `count` bf16 with small numbers that are all but random.
cudaError_t launch_fill_probe(uint16_t* out, int64_t count, uint32_t seed, cudaStream_t stream);

} // namespace troupe::gpu::kernels
