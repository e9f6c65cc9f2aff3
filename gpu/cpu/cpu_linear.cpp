#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "gpu/cpu/blocks.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/panels.hpp"

namespace troupe::gpu::cpu {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Columns of a task: enough tasks that threads finish together, wide enough to stream through the
/// weights. A multiple of `step`, what the kernels compute side by side, or at least of `least`
/// where there would be fewer tasks than threads.
int64_t task_columns(int64_t n, int64_t threads, int64_t row_tasks, int64_t least, int64_t step,
                     int64_t most) {
  const auto columns = std::clamp(n / (threads * 4) / step * step, step, most);
  if (ceil_div(n, columns) * row_tasks >= threads)
    return columns;
  return std::min(columns, ceil_div(ceil_div(n, threads), least) * least);
}

} // namespace

size_t kind_of(dtype type) {
  switch (type) {
  case dtype::f32:
    return static_cast<size_t>(element::f32);
  case dtype::f16:
    return static_cast<size_t>(element::f16);
  case dtype::bf16:
    return static_cast<size_t>(element::bf16);
  default:
    std::abort(); // the ops name no other
  }
}

/// A gain or bias as floats; valid until the next call.
const float* cpu_device::widened(const weight& w) {
  const int64_t n = w.rows * w.cols;
  auto* out = small_weight_.get<float>(static_cast<size_t>(n) * sizeof(float));
  isa_.kernels.widen[kind_of(w.type)](w.data, 1.0f, out, n);
  return out;
}

/// The input rows as bf16, each padded with zeros to `padded` elements.
const unsigned char* cpu_device::rounded_rows(const linear_args& args, int64_t padded) {
  const auto k = args.w.cols;
  auto* out = rounded_.get<unsigned char>(static_cast<size_t>(args.rows * padded) * 2);
  for_rows(args.rows, k, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) {
      isa_.kernels.to_bf16(args.x + i * args.x_stride, out + i * padded * 2, k);
      std::memset(out + (i * padded + k) * 2, 0, static_cast<size_t>(padded - k) * 2);
    }
  });
  return out;
}

/// The input rows as blocks of bytes.
const activation_block* cpu_device::byte_rows(const linear_args& args) {
  const auto k = args.w.cols, blocks = k / int64_t{block_elements};
  auto* out = rounded_.get<activation_block>(static_cast<size_t>(args.rows * blocks) *
                                             sizeof(activation_block));
  const auto added = added_to(args.w.type);
  const bool halves = args.w.type == dtype::q6_k;
  for_rows(args.rows, k, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i)
      isa_.kernels.to_bytes(args.x + i * args.x_stride, added, halves, out + i * blocks, k);
  });
  return out;
}

/// The kernel for weights of that type in panels; null where they are better multiplied otherwise.
panel_function cpu_device::panel_kernel(dtype type) const {
  if (exact_ || (type != dtype::bf16 && !is_blocks(type)))
    return nullptr;
  return isa_.kernels.linear_panels[panel_kind_of(type)];
}

void cpu_device::linear(const linear_args& args) {
  if (args.rows == 0 || args.w.rows == 0)
    return;
  const bool blocks = is_blocks(args.w.type), plain = args.w.layout == weight_layout::rows;
  if (panel_kernel(args.w.type) != nullptr && (blocks || !plain))
    linear_panels(args);
  else if (blocks || !plain)
    linear_expanded(args);
  else
    linear_plain(args);
}

void cpu_device::linear_plain(const linear_args& args) {
  const bool dot = args.w.type == dtype::bf16 && isa_.kernels.linear_bf16_dot != nullptr;
  linear_job job{};
  job.x = args.x;
  job.x_stride = args.x_stride;
  job.w = static_cast<const unsigned char*>(args.w.data);
  job.k = args.w.cols;
  job.bias = args.bias ? widened(args.bias) : nullptr;
  job.out = args.out;
  job.out_stride = args.out_stride;
  job.accumulate = args.accumulate;
  if (dot) {
    job.x_stride = ceil_div(job.k, dot_padding) * dot_padding;
    job.x = rounded_rows(args, job.x_stride);
  }
  run_linear(job, args,
             dot ? isa_.kernels.linear_bf16_dot : isa_.kernels.linear[kind_of(args.w.type)]);
}

void cpu_device::run_linear(const linear_job& job, const linear_args& args, linear_kernel kernel) {
  const int64_t n = args.w.rows, work = args.rows * n * job.k;
  const int64_t threads = work <= 4 * serial_elements_max ? 1 : pool_.size();
  const auto row_tasks = ceil_div(args.rows, linear_rows_max);
  const auto cols = task_columns(n, threads, row_tasks, 8, 8, linear_cols_max);
  for_tasks(ceil_div(n, cols) * row_tasks, work, [&](int64_t task, unsigned thread) {
    const auto row = task % row_tasks * linear_rows_max; // rows first: the weights stay in cache
    const auto col = task / row_tasks * cols;
    linear_job mine = job;
    mine.scratch = thread_scratch_[thread].get<void>(linear_scratch_bytes);
    kernel(mine, {row, std::min(row + linear_rows_max, args.rows), col, std::min(col + cols, n)});
  });
}

void cpu_device::linear_panels(const linear_args& args) {
  const auto n = args.w.rows, k = args.w.cols;
  const bool blocks = is_blocks(args.w.type);
  const auto in_panels =
      args.w.layout == weight_layout::panels ? n / panel_cols * panel_cols : int64_t{0};
  panel_job job{};
  job.blocks = k / int64_t{block_elements};
  if (blocks) {
    job.x = byte_rows(args);
    job.x_row_bytes = job.blocks * static_cast<int64_t>(sizeof(activation_block));
  } else {
    // Rows a multiple of 4 KiB apart would all want the same few places of the L1 cache.
    const auto stride = k * 2 % 4096 == 0 ? k + dot_padding : k;
    job.x = rounded_rows(args, stride);
    job.x_row_bytes = stride * 2;
  }
  job.panels = static_cast<const unsigned char*>(args.w.data);
  job.panel_bytes = panel_cols * block_row_bytes(args.w.type, k);
  job.bias = args.bias ? widened(args.bias) : nullptr;
  job.out = args.out;
  job.out_stride = args.out_stride;
  job.accumulate = args.accumulate;
  run_panels(job, args, in_panels);
  if (blocks || in_panels == n)
    return;
  auto rest = args;
  rest.w = {job.panels + in_panels * block_row_bytes(args.w.type, k), args.w.type, n - in_panels,
            k};
  if (args.bias) {
    const auto bytes = static_cast<int64_t>(size_of(args.bias.type));
    rest.bias.data = static_cast<const unsigned char*>(args.bias.data) + in_panels * bytes;
    rest.bias.cols = n - in_panels;
  }
  rest.out += in_panels;
  linear_plain(rest);
}

/// The columns in panels, and those in blocks that are in none: these are laid out a tile at a
/// time, for all rows of the batch.
void cpu_device::run_panels(const panel_job& job, const linear_args& args, int64_t in_panels) {
  const auto n = is_blocks(args.w.type) ? args.w.rows : in_panels, k = args.w.cols;
  if (n == 0)
    return;
  const auto work = args.rows * n * k, row_bytes = block_row_bytes(args.w.type, k);
  const auto kernel = panel_kernel(args.w.type);
  const int64_t threads = work <= 4 * serial_elements_max ? 1 : pool_.size();
  const auto call_rows = isa_.kernels.panel_call_rows;
  const auto row_tasks = ceil_div(args.rows, call_rows);
  const auto cols = task_columns(n, threads, row_tasks, panel_cols,
                                 is_blocks(args.w.type) ? 32 : 64, panel_cols_max);
  const auto panel_tasks = ceil_div(in_panels, cols) * row_tasks;
  const auto run = [&](const panel_job& mine, int64_t row, int64_t col, int64_t col_end) {
    kernel(mine, {row, std::min(row + call_rows, args.rows), col, col_end});
  };
  const auto body = [&](int64_t task, unsigned thread) {
    panel_job mine = job;
    if (task < panel_tasks) {
      // Rows first: the weights stay in cache.
      const auto row = task % row_tasks * call_rows, col = task / row_tasks * cols;
      mine.scratch = thread_scratch_[thread].get<void>(linear_scratch_bytes);
      return run(mine, row, col, std::min(col + cols, in_panels));
    }
    const auto col = in_panels + (task - panel_tasks) * cols, end = std::min(col + cols, n);
    auto* own = thread_scratch_[thread].get<unsigned char>(linear_scratch_bytes +
                                                           static_cast<size_t>(cols * row_bytes));
    mine.scratch = own;
    mine.panels = own + linear_scratch_bytes;
    for (auto at = col; at < end; at += panel_cols)
      pack_panel(args.w.type, job.panels + at * row_bytes, std::min(panel_cols, end - at), k,
                 own + linear_scratch_bytes + (at - col) * row_bytes);
    mine.out += col;
    mine.bias = mine.bias == nullptr ? nullptr : mine.bias + col;
    for (int64_t row = 0; row < args.rows; row += call_rows)
      run(mine, row, 0, end - col);
  };
  for_tasks(panel_tasks + ceil_div(n - in_panels, cols), work, body);
}

/// A row of a weight in any layout as floats.
void cpu_device::widened_row(const weight& w, int64_t row, float* out) const {
  const auto* data = static_cast<const unsigned char*>(w.data);
  const auto* from = data + row * block_row_bytes(w.type, w.cols);
  const bool rows = w.layout == weight_layout::rows;
  if (rows && !is_blocks(w.type))
    return isa_.kernels.widen[kind_of(w.type)](from, 1.0f, out, w.cols);
  if (rows && (w.type == dtype::q8_0 || w.type == dtype::q4_0))
    return isa_.kernels.expand[w.type == dtype::q4_0](from, out, w.cols);
  expand_row(w, row, out);
}

/// Weights in any layout as floats, a tile of columns at a time: expanded once, then multiplied
/// with all rows.
void cpu_device::linear_expanded(const linear_args& args) {
  const auto n = args.w.rows, k = args.w.cols;
  linear_job job{};
  job.x = args.x;
  job.x_stride = args.x_stride;
  job.k = k;
  const float* bias = args.bias ? widened(args.bias) : nullptr;
  job.out_stride = args.out_stride;
  job.accumulate = args.accumulate;
  const auto kernel = isa_.kernels.linear[static_cast<size_t>(element::f32)];
  const auto cols = task_columns(n, pool_.size(), 1, 8, 8, expanded_cols_max);
  const auto body = [&](int64_t task, unsigned thread) {
    const auto col = task * cols, here = std::min(cols, n - col);
    auto* own = thread_scratch_[thread].get<unsigned char>(
        linear_scratch_bytes + static_cast<size_t>(cols * k) * sizeof(float));
    auto* tile = reinterpret_cast<float*>(own + linear_scratch_bytes);
    for (int64_t c = 0; c < here; ++c)
      widened_row(args.w, col + c, tile + c * k);
    linear_job mine = job;
    mine.scratch = own;
    mine.w = own + linear_scratch_bytes;
    mine.out = args.out + col;
    mine.bias = bias == nullptr ? nullptr : bias + col;
    for (int64_t row = 0; row < args.rows; row += linear_rows_max)
      kernel(mine, {row, std::min(row + linear_rows_max, args.rows), 0, here});
  };
  for_tasks(ceil_div(n, cols), args.rows * n * k, body);
}

} // namespace troupe::gpu::cpu
