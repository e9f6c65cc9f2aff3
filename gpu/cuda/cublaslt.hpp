#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

namespace troupe::gpu::cuda {

/// out[i, :] (+)= x[i, :] * w^T for rows of x. x and w are bf16, out is float, sums are in float.
struct lt_product {
  const void* x = nullptr; ///< [rows, k], rows `x_stride` apart
  const void* w = nullptr; ///< [n, k], contiguous
  float* out = nullptr;    ///< [rows, n], rows `out_stride` apart
  int64_t rows = 0, n = 0, k = 0;
  int64_t x_stride = 0, out_stride = 0;
  bool accumulate = false;
};

/// NVIDIA's library of matrix products, opened when it is first wanted: nothing links it, so the
/// program starts without it. Which kernel it takes for a shape is asked for once and remembered.
/// A row's bits may depend on how many rows there are, unlike those of `linear`.
/// For one device and one thread at a time.
class cublaslt {
public:
  /// Null where there is no such library or it does not start; `why` then says so.
  static std::unique_ptr<cublaslt> open(std::string& why);
  virtual ~cublaslt() = default;

  /// Queues a product on `stream`. False, with `why`, if the library does not take this one or
  /// could not queue it; nothing is queued then. `workspace` is aligned to 256 bytes and is in use
  /// until the product is done.
  virtual bool multiply(const lt_product& of, void* workspace, uint64_t workspace_bytes,
                        cudaStream_t stream, std::string& why) = 0;
  /// Of the library: 130001 is 13.0.1.
  virtual uint64_t version() const = 0;
};

/// As much as the library profits from on the devices of today.
constexpr uint64_t lt_workspace_bytes = uint64_t{32} << 20;

} // namespace troupe::gpu::cuda
