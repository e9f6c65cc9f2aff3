#pragma once
#include "gpu/cpu/kernels.hpp"

/// What kernels of attention share, over the primitives of the simd/vec_*.hpp that was included
/// before.
namespace troupe::gpu::cpu {
namespace {

/// Positions [begin, end).
struct span {
  int64_t begin;
  int64_t end;
  bool empty() const { return begin >= end; }
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/// Of `all`, those in the chunk at `at`, counted from its start.
inline span in_chunk(span all, int64_t at) {
  return {larger(all.begin - at, 0), smaller(all.end - at, attention_keys)};
}

inline span seen_by(const attention_job& job, int query) {
  return {job.begin[query], job.end[query]};
}

/// From the first position that any query sees to the last.
inline span seen_by_any(const attention_job& job) {
  span all{0, 0};
  for (int i = 0; i < job.count; ++i) {
    const span mine = seen_by(job, i);
    if (mine.empty())
      continue;
    all = all.empty() ? mine : span{smaller(all.begin, mine.begin), larger(all.end, mine.end)};
  }
  return all;
}

/// Divides what the queries gathered, or leaves that to whoever merges parts. `sums`: rows of
/// `stride`, a whole number of vectors.
inline void end_queries(const attention_job& job, const float* sums, int64_t stride,
                        const float* tops, const float* totals) {
  for (int i = 0; i < job.count; ++i) {
    const bool undivided = job.tops != nullptr || seen_by(job, i).empty();
    if (job.tops != nullptr) {
      job.tops[i] = tops[i];
      job.totals[i] = totals[i];
    }
    const vec total = splat(undivided ? 1.0f : totals[i]);
    for (int64_t d = 0; d < job.head_dim; d += lanes)
      store_f32_part(job.out[i] + d, div(load_f32(sums + i * stride + d), total),
                     smaller(job.head_dim - d, lanes));
  }
}

} // namespace
} // namespace troupe::gpu::cpu
