#include "gpu/kernels/choose.cuh"

#include <cmath>

#include "gpu/kernels/choose_parts.cuh"

namespace troupe::gpu::kernels {
namespace {

/// Where a block of a shared row begins and ends.
struct stretch {
  int64_t row = blockIdx.y;
  int64_t begin = int64_t{blockIdx.x} * choose_part;
  int64_t end;
  __device__ explicit stretch(const choose_args& args)
      : end{min(begin + choose_part, args.vocabulary)} {}
};

/// The highest logit of each part, and its first token.
__global__ void scan_kernel(choose_args args, choose_partials partials, bool after_edits) {
  __shared__ uint64_t memory[warp_threads];
  const stretch at{args};
  const auto& how = args.how[at.row];
  if (how.is_left_out || (after_edits && how.edits == 0))
    return;
  const float* logits = args.logits + at.row * args.stride;
  uint64_t best = 0;
#pragma unroll 4
  for (int64_t i = at.begin + threadIdx.x; i < at.end; i += choose_part_threads)
    best = max(best, ranked(logits[i], i));
  best = block_max(best, memory);
  auto* out = after_edits ? partials.edited : partials.highest;
  if (threadIdx.x == 0)
    out[at.row * partials.parts + blockIdx.x] = best;
}

/// Applies a row's edits; each names another token.
__global__ void edit_kernel(choose_args args) {
  const int64_t row = blockIdx.x;
  const auto how = args.how[row];
  if (how.is_left_out)
    return;
  float* logits = args.logits + row * args.stride;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < how.edits;
       i += static_cast<int32_t>(blockDim.x)) {
    auto& edit = args.edits[how.first_edit + i];
    const float raw = logits[edit.token];
    edit.raw = raw;
    float logit = sum(raw, edit.bias);
    if (edit.what & choose_edit::suppressed)
      logit = -INFINITY;
    if (edit.what & choose_edit::seen)
      logit = penalized(logit, how.repetition_penalty, how.frequency_penalty, how.presence_penalty,
                        edit.count);
    logits[edit.token] = logit;
  }
}

/// The mass of each part: of the logits as they came, at temperature 1, or of what is drawn from.
__global__ void weigh_kernel(choose_args args, choose_partials partials, bool is_raw) {
  __shared__ uint64_t memory[warp_threads];
  const stretch at{args};
  const auto how = args.how[at.row];
  if (how.is_left_out || (is_raw ? how.top < 0 : how.temperature == 0))
    return;
  const auto* of_parts = is_raw || how.edits == 0 ? partials.highest : partials.edited;
  const auto best = highest_of_parts(of_parts + at.row * partials.parts, partials.parts, memory);
  if (!is_finite_rank(best))
    return;
  const float highest = logit_of(best), temperature = is_raw ? 1.0f : how.temperature;
  const float least = is_raw ? 0.0f : how.min_p;
  const bool stores = !is_raw && keeps_weights(how, args.vocabulary);
  float* logits = args.logits + at.row * args.stride;
  uint64_t mass = 0;
#pragma unroll 4
  for (int64_t i = at.begin + threadIdx.x; i < at.end; i += choose_part_threads) {
    const float weight = weight_of(logits[i], highest, temperature);
    if (stores)
      logits[i] = weight;
    mass += weight >= least ? mass_of(weight) : 0;
  }
  mass = block_sum(mass, memory);
  auto* out = is_raw ? partials.raw_mass : partials.mass;
  if (threadIdx.x == 0)
    out[at.row * partials.parts + blockIdx.x] = mass;
}

int64_t parts_of(const choose_args& args) {
  return (args.vocabulary + choose_part - 1) / choose_part;
}

} // namespace

uint64_t choose_scratch_bytes(const choose_args& args) {
  return static_cast<uint64_t>(args.rows * parts_of(args)) * sizeof(uint64_t) *
         choose_partials::arrays;
}

cudaError_t launch_choose(const choose_args& args, void* scratch, cudaStream_t stream) {
  const auto parts = parts_of(args);
  auto* words = static_cast<uint64_t*>(scratch);
  const auto each = args.rows * parts;
  const choose_partials partials{parts, words, words + each, words + 2 * each, words + 3 * each};
  const dim3 grid{static_cast<unsigned>(parts), static_cast<unsigned>(args.rows), 1};
  const dim3 rows{static_cast<unsigned>(args.rows), 1, 1};
  auto status = launch(scan_kernel, grid, choose_part_threads, stream, args, partials, false);
  const auto then = [&](bool is_wanted, const auto& queue) {
    if (is_wanted && status == cudaSuccess)
      status = queue();
  };
  then(args.any_tops, [&] {
    return launch(weigh_kernel, grid, choose_part_threads, stream, args, partials, true);
  });
  then(args.any_tops, [&] { return launch_choose_tops(args, partials, stream); });
  then(args.any_edits,
       [&] { return launch(edit_kernel, rows, choose_part_threads, stream, args); });
  then(args.any_edits, [&] {
    return launch(scan_kernel, grid, choose_part_threads, stream, args, partials, true);
  });
  then(args.any_draws, [&] {
    return launch(weigh_kernel, grid, choose_part_threads, stream, args, partials, false);
  });
  then(true, [&] { return launch_choose_ends(args, partials, stream); });
  return status;
}

} // namespace troupe::gpu::kernels
