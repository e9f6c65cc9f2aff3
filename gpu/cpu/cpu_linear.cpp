#include <algorithm>
#include <array>
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

/// Whether products with weights of that type in panels read the rows in bytes, not as bf16.
bool reads_bytes(dtype type) { return is_blocks(type) && type != dtype::f8_b128; }

/// Whether products with weights of either type read the same form of the rows.
bool rounds_alike(dtype one, dtype other) {
  const auto halves = [](dtype type) { return type == dtype::q6_k; };
  if (!reads_bytes(one) || !reads_bytes(other))
    return reads_bytes(one) == reads_bytes(other);
  return added_to(one) == added_to(other) && halves(one) == halves(other);
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

/// A gain or bias as floats, in `room`.
const float* cpu_device::widened(const weight& w, scratch& room) const {
  const int64_t n = w.rows * w.cols;
  auto* out = room.get<float>(static_cast<size_t>(n) * sizeof(float));
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

bool cpu_device::goes_by_panels(const linear_args& args) const {
  const bool in_rows = args.w.layout == weight_layout::rows;
  return panel_kernel(args.w.type) != nullptr && (is_blocks(args.w.type) || !in_rows);
}

void cpu_device::linear(const linear_args& args) { linear_group({&args, 1}); }

void cpu_device::linear_group(std::span<const linear_args> group) {
  while (!group.empty()) {
    size_t count = 1;
    if (goes_by_panels(group[0]))
      while (count < std::min(group.size(), products_max) && goes_by_panels(group[count]) &&
             rounds_alike(group[0].w.type, group[count].w.type))
        ++count;
    const auto now = group.first(count);
    group = group.subspan(count);
    if (now[0].rows == 0)
      continue;
    if (goes_by_panels(now[0]))
      linear_panels(now);
    else if (now[0].w.layout == weight_layout::rows &&
             (!is_blocks(now[0].w.type) || now[0].w.type == dtype::f8_b128))
      linear_plain(now[0]);
    else
      linear_expanded(now[0]);
  }
}

void cpu_device::linear_plain(const linear_args& args) {
  if (args.w.rows == 0)
    return;
  const bool dot = args.w.type == dtype::bf16 && isa_.kernels.linear_bf16_dot != nullptr;
  linear_job job{};
  job.x = args.x;
  job.x_stride = args.x_stride;
  job.w = static_cast<const unsigned char*>(args.w.data);
  job.k = args.w.cols;
  job.bias = args.bias ? widened(args.bias, biases_[0]) : nullptr;
  job.out = args.out;
  job.out_stride = args.out_stride;
  job.accumulate = args.accumulate;
  if (dot) {
    job.x_stride = ceil_div(job.k, dot_padding) * dot_padding;
    job.x = rounded_rows(args, job.x_stride);
  }
  run_linear(job, args,
             dot                             ? isa_.kernels.linear_bf16_dot
             : args.w.type == dtype::f8_b128 ? isa_.kernels.linear_f8
                                             : isa_.kernels.linear[kind_of(args.w.type)]);
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

/// A product with weights in panels, and its tasks.
struct cpu_device::panel_product {
  const linear_args* args = nullptr;
  panel_job job{};
  panel_function kernel = nullptr;
  int64_t row_bytes = 0; ///< of the weights
  int64_t columns = 0;   ///< that the kernel computes; the rest of bf16 weights has another
  int64_t in_panels = 0; ///< of them; the others are laid out a task at a time
  int64_t task_columns = 0;
  int64_t row_tasks = 0;
  int64_t panel_tasks = 0;

  int64_t tasks() const { return panel_tasks + ceil_div(columns - in_panels, task_columns); }
};

cpu_device::panel_product cpu_device::product_of(const linear_args& args, const panel_job& rows,
                                                 scratch& bias_room) const {
  const auto n = args.w.rows, k = args.w.cols;
  panel_product out;
  out.args = &args;
  out.job = rows;
  out.row_bytes = block_row_bytes(args.w.type, k);
  out.in_panels = args.w.layout == weight_layout::panels ? n / panel_cols * panel_cols : int64_t{0};
  out.columns = is_blocks(args.w.type) ? n : out.in_panels;
  out.kernel = panel_kernel(args.w.type);
  out.row_tasks = ceil_div(args.rows, int64_t{isa_.kernels.panel_call_rows});
  out.job.panels = static_cast<const unsigned char*>(args.w.data);
  out.job.panel_bytes = panel_cols * out.row_bytes;
  out.job.bias = args.bias ? widened(args.bias, bias_room) : nullptr;
  out.job.out = args.out;
  out.job.out_stride = args.out_stride;
  out.job.accumulate = args.accumulate;
  return out;
}

/// The rows that all products of a group read, in the form that their kernels want.
panel_job cpu_device::rows_for_panels(const linear_args& args) {
  const auto k = args.w.cols;
  panel_job out{};
  out.blocks = k / int64_t{block_elements};
  if (reads_bytes(args.w.type)) {
    out.x = byte_rows(args);
    out.x_row_bytes = out.blocks * static_cast<int64_t>(sizeof(activation_block));
  } else {
    // Rows a multiple of 4 KiB apart would all want the same few places of the L1 cache.
    const auto stride = k * 2 % 4096 == 0 ? k + dot_padding : k;
    out.x = rounded_rows(args, stride);
    out.x_row_bytes = stride * 2;
  }
  return out;
}

void cpu_device::linear_panels(std::span<const linear_args> group) {
  const auto rows = rows_for_panels(group[0]);
  std::array<panel_product, products_max> room;
  const auto products = std::span{room}.first(group.size());
  int64_t columns = 0;
  for (size_t i = 0; i < group.size(); ++i) {
    products[i] = product_of(group[i], rows, biases_[i]);
    columns += products[i].columns;
  }
  if (columns > 0)
    run_panels(products, columns);
  for (const auto& one : products)
    if (one.columns < one.args->w.rows)
      linear_rest(one);
}

/// The columns of bf16 weights that fill no panel.
void cpu_device::linear_rest(const panel_product& product) {
  auto rest = *product.args;
  const auto done = product.in_panels;
  rest.w = {product.job.panels + done * product.row_bytes, rest.w.type, rest.w.rows - done,
            rest.w.cols};
  if (rest.bias) {
    const auto bytes = static_cast<int64_t>(size_of(rest.bias.type));
    rest.bias.data = static_cast<const unsigned char*>(rest.bias.data) + done * bytes;
    rest.bias.cols = rest.w.rows;
  }
  rest.out += done;
  linear_plain(rest);
}

/// One loop over the columns of all products, `columns` of them: fewer moments in which memory
/// rests than with a loop for each.
void cpu_device::run_panels(std::span<panel_product> products, int64_t columns) {
  const auto& first = *products[0].args;
  const auto work = first.rows * columns * first.w.cols;
  const int64_t threads = work <= 4 * serial_elements_max ? 1 : pool_.size();
  const auto cols = task_columns(columns, threads, products[0].row_tasks, panel_cols,
                                 is_blocks(first.w.type) ? 32 : 64, panel_cols_max);
  int64_t tasks = 0;
  for (auto& one : products) {
    one.task_columns = cols;
    one.panel_tasks = ceil_div(one.in_panels, cols) * one.row_tasks;
    tasks += one.tasks();
  }
  for_tasks(tasks, work, [&](int64_t task, unsigned thread) {
    auto of = products.begin();
    for (; task >= of->tasks(); ++of)
      task -= of->tasks();
    if (task < of->panel_tasks)
      run_in_panels(*of, task, thread);
    else
      run_in_rows(*of, task - of->panel_tasks, thread);
  });
}

void cpu_device::run_in_panels(const panel_product& product, int64_t task, unsigned thread) {
  const auto call_rows = int64_t{isa_.kernels.panel_call_rows};
  // Rows first: the weights stay in cache.
  const auto row = task % product.row_tasks * call_rows;
  const auto col = task / product.row_tasks * product.task_columns;
  panel_job job = product.job;
  job.scratch = thread_scratch_[thread].get<void>(linear_scratch_bytes);
  product.kernel(job, {row, std::min(row + call_rows, product.args->rows), col,
                       std::min(col + product.task_columns, product.in_panels)});
}

/// Columns in blocks that are in no panels: laid out a tile at a time, for all rows of the batch.
void cpu_device::run_in_rows(const panel_product& product, int64_t task, unsigned thread) {
  const auto& args = *product.args;
  const auto row_bytes = product.row_bytes, cols = product.task_columns;
  const auto call_rows = int64_t{isa_.kernels.panel_call_rows};
  const auto col = product.in_panels + task * cols, end = std::min(col + cols, product.columns);
  auto* own = thread_scratch_[thread].get<unsigned char>(linear_scratch_bytes +
                                                         static_cast<size_t>(cols * row_bytes));
  panel_job job = product.job;
  job.scratch = own;
  job.panels = own + linear_scratch_bytes;
  for (auto at = col; at < end; at += panel_cols)
    pack_panel(args.w.type, product.job.panels + at * row_bytes, std::min(panel_cols, end - at),
               args.w.cols, own + linear_scratch_bytes + (at - col) * row_bytes);
  job.out += col;
  job.bias = job.bias == nullptr ? nullptr : job.bias + col;
  for (int64_t row = 0; row < args.rows; row += call_rows)
    product.kernel(job, {row, std::min(row + call_rows, args.rows), 0, end - col});
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
  if (args.w.rows == 0)
    return;
  const auto n = args.w.rows, k = args.w.cols;
  linear_job job{};
  job.x = args.x;
  job.x_stride = args.x_stride;
  job.k = k;
  const float* bias = args.bias ? widened(args.bias, biases_[0]) : nullptr;
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
