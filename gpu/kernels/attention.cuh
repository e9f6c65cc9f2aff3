#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

/// Attention over paged KV: online softmax (Milakov and Gimelshein 2018), tiled as in
/// FlashAttention-2 (Dao 2023, section 3) with the KV split of Flash-Decoding. Positions are cut at
/// multiples of `split_positions` whatever runs, and the parts are merged in their order: a row's
/// bits do not depend on how many blocks shared the work.
namespace troupe::gpu::kernels {

constexpr int64_t split_positions = 256;

/// Whether the tensor cores take this cache: bf16 or i8, heads of 64, 96, 128 or 256 elements.
bool tensor_cores_take(const kv_cache_view& cache);

/// How the tensor-core kernel cuts a call. A tile is 16 query vectors (rows times the query heads
/// of one KV head) of one sequence; `tiles_max` is an upper bound, for only the device knows the
/// sequences' rows.
struct attention_plan {
  int64_t tiles_max = 0;
  /// 1: a warp walks all splits of its tile. More: one warp per split, and a second kernel merges.
  int64_t splits = 1;
  uint64_t scratch_bytes = 0;
};
/// `processors` is the device's number of multiprocessors.
attention_plan plan_attention(const attention_args& args, int processors);

/// The most that plans of such calls, or of fewer rows, sequences or positions, have as
/// `scratch_bytes`; at most `split_scratch_max`, although plans of very long sequences want more.
uint64_t attention_scratch_bytes(const attention_args& largest, int processors);
constexpr uint64_t split_scratch_max = uint64_t{256} << 20;

/// Queries and softmax weights are rounded to bf16. `scratch` as the plan says, aligned to 16
/// bytes. Queues on `stream`, does not wait.
cudaError_t launch_attention_tensor(const attention_args& args, const attention_plan& plan,
                                    void* scratch, cudaStream_t stream);

/// Every product in float, for every cache; one warp per row and head.
cudaError_t launch_attention_float(const attention_args& args, cudaStream_t stream);

/// Heads may be that wide in `launch_attention_float`.
constexpr int64_t float_head_dim_max = 512;

} // namespace troupe::gpu::kernels
