#include "gpu/cuda/wide_products.hpp"

#include <algorithm>
#include <utility>

#include "gpu/kernels/linear.cuh"
#include "gpu/kernels/widen.cuh"

namespace troupe::gpu::cuda {
namespace {

constexpr uint64_t part_alignment = 256;

uint64_t aligned(uint64_t bytes) {
  return (bytes + part_alignment - 1) / part_alignment * part_alignment;
}

bool is_aligned(const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; }

dtype multiplied_type(const weight& w) { return w.type == dtype::f16 ? dtype::f16 : dtype::bf16; }

unsigned char* at(void* scratch, uint64_t offset) {
  return static_cast<unsigned char*>(scratch) + offset;
}

} // namespace

wide_products::wide_products(std::unique_ptr<cublaslt> library,
                             std::function<void(const std::string&)> warn,
                             const wide_limits& within)
    : library_{std::move(library)}, warn_{std::move(warn)}, limits_{within} {}

bool wide_products::takes(const linear_args& args) const {
  const auto& w = args.w;
  if (!is_aligned(args.out))
    return false;
  if (is_blocks(w.type))
    return args.rows >= limits_.widened_rows_min;
  return (w.type == dtype::bf16 || w.type == dtype::f16) && args.rows >= limits_.rows_min &&
         w.cols % 8 == 0 && is_aligned(w.data);
}

wide_products::pieces wide_products::cut(const linear_args& args) const {
  pieces out;
  out.count = args.w.rows;
  out.widened_at = aligned(kernels::linear_scratch_bytes(args));
  if (is_blocks(args.w.type)) {
    const auto row_bytes = bytes_of(dtype::bf16, static_cast<uint64_t>(args.w.cols));
    const auto most =
        std::max<int64_t>(1, static_cast<int64_t>(limits_.widened_bytes_max / row_bytes));
    const auto parts = (args.w.rows + most - 1) / most;
    // About equal, and whole 32 bytes of out, so that each begins as aligned as the first.
    out.count = ((args.w.rows + parts - 1) / parts + 7) / 8 * 8;
    out.widened_bytes = row_bytes * static_cast<uint64_t>(std::min(out.count, args.w.rows));
  }
  out.workspace_at = aligned(out.widened_at + out.widened_bytes);
  return out;
}

uint64_t wide_products::scratch_bytes(const linear_args& args) const {
  return cut(args).workspace_at + lt_workspace_bytes;
}

int64_t wide_products::queue(const linear_args& args, void* scratch, cudaStream_t stream,
                             cudaError_t& status) {
  const auto part = cut(args);
  int64_t done = 0;
  status = kernels::launch_round_rows(args, multiplied_type(args.w), scratch, stream);
  while (status == cudaSuccess && done < args.w.rows) {
    const auto count = std::min(part.count, args.w.rows - done);
    const void* w = args.w.data;
    if (is_blocks(args.w.type)) {
      auto* widened = reinterpret_cast<uint16_t*>(at(scratch, part.widened_at));
      status = kernels::launch_widen(args.w, done, count, widened, stream);
      w = widened;
    }
    if (status != cudaSuccess || !multiply(args, w, done, count, scratch, stream))
      break;
    done += count;
  }
  if (status == cudaSuccess && done > 0 && args.bias) {
    auto biased = args;
    biased.w.rows = done;
    status = kernels::launch_add_bias(biased, stream);
  }
  return done;
}

bool wide_products::multiply(const linear_args& args, const void* w, int64_t first, int64_t count,
                             void* scratch, cudaStream_t stream) {
  lt_product product;
  product.x = scratch;
  product.w = w;
  product.out = args.out + first;
  product.rows = args.rows;
  product.n = count;
  product.k = args.w.cols;
  product.x_stride = kernels::rounded_stride(args.w);
  product.out_stride = args.out_stride;
  product.accumulate = args.accumulate;
  product.type = multiplied_type(args.w);
  std::string why;
  if (library_->multiply(product, at(scratch, cut(args).workspace_at), lt_workspace_bytes, stream,
                         why))
    return true;
  if (auto warn = std::exchange(warn_, nullptr))
    warn(why + "; products that it refuses are left to the kernels of `invariant`");
  return false;
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
