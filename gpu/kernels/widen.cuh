#pragma once
#include <cuda_runtime.h>

#include "gpu/ops.hpp"

/// What a product of a library needs around it. Everything queues on `stream` and does not wait.
namespace troupe::gpu::kernels {

/// Rows first .. first + rows - 1 of a weight in blocks, as bf16, one after the other at `out`: the
/// values that `launch_linear_tensor` multiplies. `out` is aligned to 16 bytes.
cudaError_t launch_widen(const weight& w, int64_t first, int64_t rows, uint16_t* out,
                         cudaStream_t stream);

/// Columns that share a scale where both sides of a product are 8-bit floats.
constexpr int64_t f8_scaled = layout_of(dtype::f8_b128).elements;

/// x as 8-bit floats (f8_e4m3): `codes` [rows, w.cols] contiguous, and a scale for each `f8_scaled`
/// columns of a row, the largest magnitude there over 448, in `scales` [w.cols / f8_scaled, rows].
/// value = scale * code, to the nearest; a row with what is no number has codes that are none.
/// `codes` is aligned to 4 bytes; w.cols is whole blocks of f8_b128.
cudaError_t launch_round_f8(const linear_args& args, void* codes, float* scales,
                            cudaStream_t stream);

/// Rows first .. first + rows - 1 of a weight of f8_b128: its codes [rows, w.cols], contiguous, and
/// its scales [w.cols / f8_scaled, rows]. `codes` is aligned to 4 bytes.
cudaError_t launch_split_f8(const weight& w, int64_t first, int64_t rows, void* codes,
                            float* scales, cudaStream_t stream);

/// out[i, :] += bias, for the columns of `args.w`; `args.bias` is not empty.
cudaError_t launch_add_bias(const linear_args& args, cudaStream_t stream);

} // namespace troupe::gpu::kernels
