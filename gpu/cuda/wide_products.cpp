#include "gpu/cuda/wide_products.hpp"

#include <algorithm>
#include <utility>

#include "gpu/kernels/linear.cuh"
#include "gpu/kernels/widen.cuh"

namespace troupe::gpu::cuda {
namespace {

constexpr uint64_t part_alignment = 256;
/// Of rows and columns, where 8-bit floats are multiplied.
constexpr int64_t f8_step = 4;

uint64_t aligned(uint64_t bytes) {
  return (bytes + part_alignment - 1) / part_alignment * part_alignment;
}

bool is_aligned(const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; }

dtype multiplied_type(const weight& w) { return w.type == dtype::f16 ? dtype::f16 : dtype::bf16; }

unsigned char* at(void* scratch, uint64_t offset) {
  return static_cast<unsigned char*>(scratch) + offset;
}
float* floats_at(void* scratch, uint64_t offset) {
  return reinterpret_cast<float*>(at(scratch, offset));
}

/// Of `rows` rows, if they are 8-bit floats.
uint64_t scale_bytes(dtype type, int64_t rows, int64_t cols) {
  return type == dtype::f8_e4m3
             ? static_cast<uint64_t>(rows * (cols / kernels::f8_scaled)) * sizeof(float)
             : 0;
}

linear_args rows_from(linear_args args, int64_t first) {
  args.x += first * args.x_stride;
  args.out += first * args.out_stride;
  args.rows -= first;
  return args;
}

} // namespace

wide_products::wide_products(std::unique_ptr<cublaslt> library,
                             std::function<void(const std::string&)> warn,
                             const wide_limits& within)
    : library_{std::move(library)}, warn_{std::move(warn)}, limits_{within} {}

void wide_products::tell_once(bool& told, const std::string& what) {
  if (!std::exchange(told, true) && warn_)
    warn_(what);
}

void wide_products::lacked_memory(uint64_t size_bytes) {
  tell_once(told_lack_, "there are no " + std::to_string(size_bytes) +
                            " bytes of memory left for products of cuBLASLt; until there are, the "
                            "kernels of `invariant` take them");
}

bool wide_products::takes(const linear_args& args) const {
  const auto& w = args.w;
  if (!is_aligned(args.out))
    return false;
  if (is_blocks(w.type))
    return args.rows >= limits_.widened_rows_min;
  return (w.type == dtype::bf16 || w.type == dtype::f16) && args.rows >= limits_.rows_min &&
         w.cols % 8 == 0 && is_aligned(w.data);
}

bool wide_products::may_be_f8(const linear_args& args) const {
  return limits_.f8 && args.w.type == dtype::f8_b128 && args.rows >= f8_step &&
         args.w.rows % f8_step == 0 && args.out_stride % f8_step == 0;
}

wide_products::pieces wide_products::cut(const linear_args& args, dtype type) const {
  const auto cols = args.w.cols;
  pieces out;
  out.type = type;
  out.count = args.w.rows;
  out.x_scales_at =
      aligned(type == dtype::f8_e4m3 ? bytes_of(type, static_cast<uint64_t>(args.rows * cols))
                                     : kernels::linear_scratch_bytes(args));
  out.w_at = aligned(out.x_scales_at + scale_bytes(type, args.rows, cols));
  out.w_scales_at = out.workspace_at = out.w_at;
  if (!is_blocks(args.w.type))
    return out;
  const auto row_bytes = bytes_of(type, static_cast<uint64_t>(cols));
  const auto most =
      std::max<int64_t>(1, static_cast<int64_t>(limits_.widened_bytes_max /
                                                (row_bytes + scale_bytes(type, 1, cols))));
  const auto parts = (args.w.rows + most - 1) / most;
  // About equal, and whole 32 bytes of out, so that each begins as aligned as the first.
  out.count = ((args.w.rows + parts - 1) / parts + 7) / 8 * 8;
  const auto held = std::min(out.count, args.w.rows);
  out.w_scales_at = aligned(out.w_at + row_bytes * static_cast<uint64_t>(held));
  out.workspace_at = aligned(out.w_scales_at + scale_bytes(type, held, cols));
  return out;
}

uint64_t wide_products::scratch_bytes(const linear_args& args) const {
  auto bytes = cut(args, multiplied_type(args.w)).workspace_at;
  if (may_be_f8(args))
    bytes = std::max(bytes, cut(args, dtype::f8_e4m3).workspace_at);
  return bytes + lt_workspace_bytes;
}

int64_t wide_products::queue(const linear_args& args, void* scratch, cudaStream_t stream,
                             cudaError_t& status, std::optional<dtype>& rounded) {
  if (!may_be_f8(args))
    return queue_pieces(args, multiplied_type(args.w), scratch, stream, status, rounded);
  auto fours = args;
  fours.rows -= args.rows % f8_step;
  const auto part = cut(fours, dtype::f8_e4m3);
  const auto first = product_of(fours, part, 0, scratch);
  if (std::string why; !library_->takes(first, lt_workspace_bytes, why)) {
    tell_once(told_f8_refusal_,
              why + "; weights of 8-bit floats that it refuses are made into bf16");
    return queue_pieces(args, dtype::bf16, scratch, stream, status, rounded);
  }
  const auto done = queue_pieces(fours, part.type, scratch, stream, status, rounded);
  if (status == cudaSuccess && done > 0 && fours.rows < args.rows) {
    auto rest = rows_from(args, fours.rows);
    rest.w.rows = done;
    // Where the library is through by then; x stays where it is.
    status = kernels::launch_linear_tensor(rest, at(scratch, part.workspace_at), stream);
  }
  return done;
}

/// The whole product with both sides of that type, as far as the library takes it.
int64_t wide_products::queue_pieces(const linear_args& args, dtype type, void* scratch,
                                    cudaStream_t stream, cudaError_t& status,
                                    std::optional<dtype>& rounded) {
  const auto part = cut(args, type);
  status = round(args, part, scratch, stream, rounded);
  int64_t done = 0;
  while (status == cudaSuccess && done < args.w.rows) {
    const auto product = product_of(args, part, done, scratch);
    status = prepare_weights(args.w, part, done, product.n, scratch, stream);
    if (status != cudaSuccess || !multiply(product, at(scratch, part.workspace_at), stream))
      break;
    done += product.n;
  }
  if (status == cudaSuccess && done > 0 && args.bias) {
    auto biased = args;
    biased.w.rows = done;
    status = kernels::launch_add_bias(biased, stream);
  }
  return done;
}

cudaError_t wide_products::round(const linear_args& args, const pieces& part, void* scratch,
                                 cudaStream_t stream, std::optional<dtype>& rounded) {
  if (rounded == part.type)
    return cudaSuccess;
  rounded = part.type;
  return part.type == dtype::f8_e4m3
             ? kernels::launch_round_f8(args, scratch, floats_at(scratch, part.x_scales_at), stream)
             : kernels::launch_round_rows(args, part.type, scratch, stream);
}

/// Makes what is in blocks into what the library reads.
cudaError_t wide_products::prepare_weights(const weight& w, const pieces& part, int64_t first,
                                           int64_t count, void* scratch, cudaStream_t stream) {
  void* to = at(scratch, part.w_at);
  if (part.type == dtype::f8_e4m3)
    return kernels::launch_split_f8(w, first, count, to, floats_at(scratch, part.w_scales_at),
                                    stream);
  return is_blocks(w.type)
             ? kernels::launch_widen(w, first, count, static_cast<uint16_t*>(to), stream)
             : cudaSuccess;
}

/// Of the columns from `first` on.
lt_product wide_products::product_of(const linear_args& args, const pieces& part, int64_t first,
                                     void* scratch) {
  lt_product out;
  out.x = scratch;
  out.w = is_blocks(args.w.type) ? at(scratch, part.w_at) : args.w.data;
  out.out = args.out + first;
  out.rows = args.rows;
  out.n = std::min(part.count, args.w.rows - first);
  out.k = args.w.cols;
  out.x_stride = kernels::rounded_stride(args.w);
  out.out_stride = args.out_stride;
  out.accumulate = args.accumulate;
  out.type = part.type;
  out.x_scales = floats_at(scratch, part.x_scales_at);
  out.w_scales = floats_at(scratch, part.w_scales_at);
  return out;
}

bool wide_products::multiply(const lt_product& product, void* workspace, cudaStream_t stream) {
  std::string why;
  const bool queued = library_->multiply(product, workspace, lt_workspace_bytes, stream, why);
  if (!queued)
    tell_once(told_refusal_,
              why + "; products that it refuses are left to the kernels of `invariant`");
  return queued;
}

linear_args columns_from(linear_args args, int64_t first) {
  const auto skipped = static_cast<uint64_t>(first * args.w.cols);
  args.w.data = static_cast<const unsigned char*>(args.w.data) + bytes_of(args.w.type, skipped);
  args.w.rows -= first;
  if (args.bias)
    args.bias.data = static_cast<const unsigned char*>(args.bias.data) +
                     bytes_of(args.bias.type, static_cast<uint64_t>(first));
  args.out += first;
  return args;
}

} // namespace troupe::gpu::cuda
