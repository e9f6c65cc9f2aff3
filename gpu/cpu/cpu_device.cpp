#include "gpu/cpu/cpu_device.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "gpu/cpu/blocks.hpp"
#include "gpu/cpu/host_limits.hpp"
#include "gpu/cpu/panels.hpp"

namespace troupe::gpu::cpu {
namespace {

gate kind_of(activation act) {
  switch (act) {
  case activation::silu:
    return gate::silu;
  case activation::gelu:
    return gate::gelu;
  case activation::gelu_tanh:
    return gate::gelu_tanh;
  case activation::relu:
    return gate::relu;
  }
  std::abort();
}

} // namespace

cpu_device::cpu_device(const device_options& options, core_set cores)
    : cpu_device{options, choose_isa(options.isa, options.mode == precision::automatic),
                 std::move(cores)} {}

cpu_device::cpu_device(const device_options& options, isa_choice kernels, core_set cores)
    : host_device{options.memory_bytes}, exact_{options.mode == precision::float32}, isa_{std::move(
                                                                                         kernels)},
      cores_{std::move(cores)}, pool_{options.threads == 0 ? host_cores() : options.threads,
                                      cores_},
      thread_scratch_(pool_.size()) {}

std::string cpu_device::name() const {
  return "cpu (" + isa_.name + ", " + std::to_string(pool_.size()) +
         (pool_.size() == 1 ? " thread)" : " threads)");
}

std::unique_ptr<device> cpu_device::second_queue() {
  device_options options;
  options.threads = pool_.size();
  options.mode = exact_ ? precision::float32 : precision::automatic;
  options.memory_bytes = memory_bytes();
  auto out = std::make_unique<cpu_device>(options, isa_, cores_);
  out->share_pages(*this);
  return out;
}

void cpu_device::copy_from(const memory_home&, void* to, const void* from, size_t size_bytes) {
  constexpr size_t piece = size_t{1} << 20;
  pages().fill(to, size_bytes);
  const auto pieces = (size_bytes + piece - 1) / piece;
  pool_.run(static_cast<int64_t>(pieces), [&](int64_t number, unsigned) {
    const auto at = static_cast<size_t>(number) * piece;
    std::memcpy(static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at,
                std::min(piece, size_bytes - at));
  });
}

void cpu_device::embedding(const embedding_args& args) {
  const auto cols = args.table.cols;
  const auto* table = static_cast<const unsigned char*>(args.table.data);
  const auto type = args.table.type;
  const auto row_bytes = static_cast<int64_t>(bytes_of(type, static_cast<uint64_t>(cols)));
  const bool plain = !is_blocks(type) && args.table.layout == weight_layout::rows;
  for_rows(args.rows, cols, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) {
      float* out = args.out + i * cols;
      if (plain) {
        isa_.kernels.widen[kind_of(type)](table + args.ids[i] * row_bytes, args.scale, out, cols);
        continue;
      }
      widened_row(args.table, args.ids[i], out);
      isa_.kernels.widen[kind_of(dtype::f32)](out, args.scale, out, cols);
    }
  });
}

void cpu_device::rms_norm(const rms_norm_args& args) {
  if (args.rows == 0)
    return;
  auto* gain = const_cast<float*>(widened(args.gain, gain_));
  if (args.gain_offset != 0)
    for (int64_t c = 0; c < args.cols; ++c)
      gain[c] += args.gain_offset;
  for_rows(args.rows, args.groups * args.cols, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i)
      for (int64_t g = 0; g < args.groups; ++g) {
        const float* x = args.x + i * args.x_stride + g * args.cols;
        const double squares = isa_.kernels.sum_of_squares(x, args.cols);
        const double mean = squares / static_cast<double>(args.cols);
        isa_.kernels.scale_by(x, static_cast<float>(1 / std::sqrt(mean + args.eps)), gain,
                              args.out + i * args.out_stride + g * args.cols, args.cols);
      }
  });
}

void cpu_device::rope(const rope_args& args) {
  const auto half = args.rotary_dim / 2;
  for_rows(args.rows, args.heads * args.rotary_dim, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i)
      for (int64_t h = 0; h < args.heads; ++h) {
        float* x = args.x + i * args.stride + h * args.head_dim;
        isa_.kernels.rotate(x, x + half, args.cos + i * half, args.sin + i * half, half);
      }
  });
}

void cpu_device::gated_activation(const gated_activation_args& args) {
  const auto act = kind_of(args.act);
  for_rows(args.rows, args.cols, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i)
      isa_.kernels.gated(act, args.gate + i * args.gate_stride, args.up + i * args.up_stride,
                         args.out + i * args.out_stride, args.cols);
  });
}

void cpu_device::gather_rows(const gather_rows_args& args) {
  const auto bytes = static_cast<size_t>(args.cols) * sizeof(float);
  if (bytes == 0)
    return;
  for_rows(args.rows, args.cols, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i)
      std::memcpy(args.out + i * args.cols, args.x + args.index[i] * args.x_stride, bytes);
  });
}

} // namespace troupe::gpu::cpu

namespace troupe::gpu {

std::unique_ptr<device> make_cpu_device(const device_options& options) {
  if (options.isa == "reference")
    return make_reference_device();
  return std::make_unique<cpu::cpu_device>(options);
}

} // namespace troupe::gpu
