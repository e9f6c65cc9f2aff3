#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "gpu/cuda/cublaslt.hpp"
#include "gpu/ops.hpp"

namespace troupe::gpu::cuda {

/// From where on products go to the library, and how much memory it may have for them.
struct wide_limits {
  /// A tile of the own kernel for many rows. With fewer, a product takes about as long as reading
  /// its weights whoever multiplies, as a GPU does some 300 products in the time of reading a
  /// weight; and steps that only write texts, which have no more rows than `sequences_max` of the
  /// engine, 64 by default, stay with the kernels whose bits do not depend on the batch.
  int64_t rows_min = 128;
  /// For weights in blocks, which are made into bf16 first. The own kernel reads every block anew
  /// for each tile of 128 rows; from two tiles on, doing it once is less work.
  int64_t widened_rows_min = 256;
  /// Of weights as bf16 at a time: half a matrix of a model with 8 billion parameters.
  uint64_t widened_bytes_max = uint64_t{64} << 20;
  /// Whether 8-bit floats are multiplied as such; for a library that `multiplies_f8` there.
  bool f8 = false;
};

/// Products of `linear` that cuBLASLt computes: x rounded to the weight's type, sums in float.
/// Blocks are made into bf16 first, and x rounded to that; but blocks of 8-bit floats stay those
/// where `wide_limits` says so, and x becomes 8-bit floats with a scale for each 128 columns of a
/// row. That takes rows and columns in fours: up to three rows are left to the own kernels, and all
/// of a product whose columns are not. For one device, and one thread at a time.
class wide_products {
public:
  /// `warn` is told of the first product that the library refuses, and of the first in 8-bit
  /// floats; null = nobody is.
  wide_products(std::unique_ptr<cublaslt> library, std::function<void(const std::string&)> warn,
                const wide_limits& within = {});

  std::string version() const { return library_->version(); }
  /// Whether the library is to be asked: for bf16, f16 and blocks, and many rows.
  bool takes(const linear_args& args) const;
  /// Memory that `queue` needs, aligned to 256 bytes.
  uint64_t scratch_bytes(const linear_args& args) const;
  /// Tells, once, that so much was not to be had.
  void lacked_memory(uint64_t size_bytes);
  /// Queues a product that `takes` gave true for. Gives how many columns of `out`, from the first
  /// on, were queued: fewer than all where the library refused or `status` is not success.
  /// `rounded` says as what x, of those rows, lies in `scratch` already, if it does, and is set to
  /// what does then.
  int64_t queue(const linear_args& args, void* scratch, cudaStream_t stream, cudaError_t& status,
                std::optional<dtype>& rounded);

private:
  /// A product as the library gets it, columns of out `count` at a time, and where in the scratch
  /// memory its parts lie.
  struct pieces {
    dtype type = dtype::bf16; ///< of both sides
    int64_t count = 0;
    uint64_t x_scales_at = 0, w_at = 0, w_scales_at = 0, workspace_at = 0;
  };
  pieces cut(const linear_args& args, dtype type) const;
  bool may_be_f8(const linear_args& args) const;
  int64_t queue_pieces(const linear_args& args, dtype type, void* scratch, cudaStream_t stream,
                       cudaError_t& status, std::optional<dtype>& rounded);
  static cudaError_t round(const linear_args& args, const pieces& part, void* scratch,
                           cudaStream_t stream, std::optional<dtype>& rounded);
  static cudaError_t prepare_weights(const weight& w, const pieces& part, int64_t first,
                                     int64_t count, void* scratch, cudaStream_t stream);
  static lt_product product_of(const linear_args& args, const pieces& part, int64_t first,
                               void* scratch);
  bool multiply(const lt_product& product, void* workspace, cudaStream_t stream);
  void tell_once(bool& told, const std::string& what);

  std::unique_ptr<cublaslt> library_;
  const std::function<void(const std::string&)> warn_;
  bool told_refusal_ = false, told_f8_refusal_ = false, told_lack_ = false;
  const wide_limits limits_;
};

/// The product's columns from `first` on.
linear_args columns_from(linear_args args, int64_t first);

} // namespace troupe::gpu::cuda
