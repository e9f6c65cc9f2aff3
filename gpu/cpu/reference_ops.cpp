#include "gpu/cpu/reference_ops.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "gpu/cpu/blocks.hpp"
#include "gpu/cpu/element.hpp"
#include "gpu/cpu/panels.hpp"

namespace troupe::gpu::cpu::reference {

void embedding(const embedding_args& args) {
  const auto cols = args.table.cols;
  for (int64_t i = 0; i < args.rows; ++i) {
    float* out = args.out + i * cols;
    expand_row(args.table, args.ids[i], out);
    for (int64_t c = 0; c < cols; ++c)
      out[c] *= args.scale;
  }
}

void rms_norm(const rms_norm_args& args) {
  for (int64_t i = 0; i < args.rows; ++i) {
    for (int64_t g = 0; g < args.groups; ++g) {
      const float* x = args.x + i * args.x_stride + g * args.cols;
      float* out = args.out + i * args.out_stride + g * args.cols;
      double squares = 0;
      for (int64_t c = 0; c < args.cols; ++c)
        squares += double{x[c]} * x[c];
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(args.cols) + args.eps);
      for (int64_t c = 0; c < args.cols; ++c) {
        const double gain = load_element(args.gain.data, args.gain.type, c);
        out[c] = static_cast<float>(x[c] * inverse * (gain + args.gain_offset));
      }
    }
  }
}

void linear(const linear_args& args) {
  const auto k = args.w.cols;
  std::vector<float> w(static_cast<size_t>(k));
  for (int64_t j = 0; j < args.w.rows; ++j) {
    expand_row(args.w, j, w.data());
    for (int64_t i = 0; i < args.rows; ++i) {
      double sum = 0;
      for (int64_t c = 0; c < k; ++c)
        sum += double{args.x[i * args.x_stride + c]} * w[static_cast<size_t>(c)];
      if (args.bias)
        sum += load_element(args.bias.data, args.bias.type, j);
      float& out = args.out[i * args.out_stride + j];
      out = static_cast<float>(args.accumulate ? out + sum : sum);
    }
  }
}

void quantize(const quantize_args& args) {
  std::vector<unsigned char> panel(
      static_cast<size_t>(panel_rows * block_row_bytes(args.to, args.w.cols)));
  for (int64_t row = 0; row < args.w.rows; row += panel_rows)
    quantize_rows(args, row, std::min(panel_rows, args.w.rows - row), panel.data());
}

void rope(const rope_args& args) {
  const auto half = args.rotary_dim / 2;
  for (int64_t i = 0; i < args.rows; ++i) {
    for (int64_t h = 0; h < args.heads; ++h) {
      float* x = args.x + i * args.stride + h * args.head_dim;
      for (int64_t d = 0; d < half; ++d) {
        const double cos = args.cos[i * half + d];
        const double sin = args.sin[i * half + d];
        const double first = x[d];
        const double second = x[d + half];
        x[d] = static_cast<float>(first * cos - second * sin);
        x[d + half] = static_cast<float>(second * cos + first * sin);
      }
    }
  }
}

namespace {

double activate(activation act, double x) {
  switch (act) {
  case activation::silu:
    return x / (1 + std::exp(-x));
  case activation::gelu:
    return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
  case activation::gelu_tanh:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
  case activation::relu:
    return x > 0 ? x : 0;
  }
  return x;
}

} // namespace

void gated_activation(const gated_activation_args& args) {
  for (int64_t i = 0; i < args.rows; ++i)
    for (int64_t c = 0; c < args.cols; ++c)
      args.out[i * args.out_stride + c] =
          static_cast<float>(activate(args.act, args.gate[i * args.gate_stride + c]) *
                             args.up[i * args.up_stride + c]);
}

void gather_rows(const gather_rows_args& args) {
  for (int64_t i = 0; i < args.rows; ++i)
    for (int64_t c = 0; c < args.cols; ++c)
      args.out[i * args.cols + c] = args.x[args.index[i] * args.x_stride + c];
}

} // namespace troupe::gpu::cpu::reference
