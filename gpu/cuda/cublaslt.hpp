#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/dtype.hpp"

namespace troupe::gpu::cuda {

/// out[i, :] (+)= x[i, :] * w^T for rows of x; out and all sums are in float. Pointers are aligned
/// to 16 bytes.
/// With 8-bit floats each 128 elements along k share a scale, on both sides; rows, n and
/// `out_stride` are then multiples of 4, k of 16.
struct lt_product {
  const void* x = nullptr; ///< [rows, k], rows `x_stride` apart
  const void* w = nullptr; ///< [n, k], contiguous
  float* out = nullptr;    ///< [rows, n], rows `out_stride` apart
  int64_t rows = 0, n = 0, k = 0;
  int64_t x_stride = 0, out_stride = 0;
  bool accumulate = false;
  dtype type = dtype::bf16;        ///< of x and w: bf16, f16 or f8_e4m3
  const float* x_scales = nullptr; ///< [k / 128, rows], with f8_e4m3
  const float* w_scales = nullptr; ///< [k / 128, n], with f8_e4m3
};

/// NVIDIA's library of matrix products, opened when it is first wanted: nothing links it, so the
/// program starts without it. Which kernel it takes is asked for once for all numbers of rows that
/// are about the same, and remembered; what it takes follows from the product alone.
/// A row's bits may depend on how many rows there are, unlike those of `linear`.
/// For one device and one thread at a time.
class cublaslt {
public:
  /// Null where there is no such library or it does not start; `why` then says so.
  static std::unique_ptr<cublaslt> open(std::string& why);
  virtual ~cublaslt() = default;

  /// Queues a product on `stream`, which may be recording. False, with `why`, if the library does
  /// not take this one or could not queue it; nothing is queued then. `workspace` is aligned to
  /// 256 bytes and is in use until the product is done.
  virtual bool multiply(const lt_product& of, void* workspace, uint64_t workspace_bytes,
                        cudaStream_t stream, std::string& why) = 0;
  /// Whether it has a kernel for a product, as `multiply` would ask for it.
  virtual bool takes(const lt_product& of, uint64_t workspace_bytes, std::string& why) = 0;
  /// Whether it may take products of 8-bit floats on a device of that compute capability: 12.9 and
  /// later know scales of 128 elements, for 9.0 alone.
  virtual bool multiplies_f8(int major, int minor) const = 0;
  /// "13.0.1"
  virtual std::string version() const = 0;
};

/// As much as the library profits from on the devices of today.
constexpr uint64_t lt_workspace_bytes = uint64_t{32} << 20;

/// The number of rows that stands for `rows` when a kernel is asked for: the next multiple of 64,
/// or of about a quarter of `rows` where there are many.
int64_t lt_bucket(int64_t rows);

} // namespace troupe::gpu::cuda
