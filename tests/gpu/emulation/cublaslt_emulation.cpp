#include "base/half.hpp"
#include "gpu/cuda/cublaslt.hpp"

namespace troupe::gpu::cuda {
namespace {

/// The product that cuBLASLt would do, one sum after the other.
class plain_products final : public cublaslt {
public:
  bool multiply(const lt_product& of, void*, uint64_t, cudaStream_t stream, std::string&) override {
    cuda_emulation::settle(stream);
    const auto* x = static_cast<const uint16_t*>(of.x);
    const auto* w = static_cast<const uint16_t*>(of.w);
    for (int64_t row = 0; row < of.rows; ++row)
      for (int64_t column = 0; column < of.n; ++column) {
        float sum = 0;
        for (int64_t i = 0; i < of.k; ++i)
          sum += bf16_to_float(x[row * of.x_stride + i]) * bf16_to_float(w[column * of.k + i]);
        float& out = of.out[row * of.out_stride + column];
        out = of.accumulate ? out + sum : sum;
      }
    return true;
  }
  uint64_t version() const override { return 0; }
};

} // namespace

std::unique_ptr<cublaslt> cublaslt::open(std::string&) {
  return std::make_unique<plain_products>();
}

} // namespace troupe::gpu::cuda
