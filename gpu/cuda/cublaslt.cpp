#include "gpu/cuda/cublaslt.hpp"

#include <algorithm>
#include <bit>

#if __has_include(<cublasLt.h>)
#include <map>
#include <tuple>

#include "gpu/cuda/cublaslt_library.hpp"

namespace troupe::gpu::cuda {
namespace {

constexpr uint32_t pointer_alignment = 16;

/// The first version that knows scales of 128 elements, 12.9.
constexpr size_t f8_version_min = 120900;

cudaDataType_t library_type(dtype type) {
  switch (type) {
  case dtype::f8_e4m3:
    return CUDA_R_8F_E4M3;
  case dtype::f16:
    return CUDA_R_16F;
  default:
    return CUDA_R_16BF;
  }
}

std::string status_text(cublasStatus_t status) {
  return "status " + std::to_string(static_cast<int>(status));
}

/// A kernel for products of one shape. The library counts columns first: a row-major matrix is its
/// transpose there. So the product is out^T [n, rows] = w [n, k] * x^T [k, rows], with w transposed
/// in memory.
class plan {
public:
  /// Asks for the kernel that should be fastest for `rows` rows.
  plan(const cublaslt_functions& api, cublasLtHandle_t handle, const lt_product& of, int64_t rows,
       uint64_t workspace_bytes)
      : api_{api}, handle_{handle}, workspace_bytes_{workspace_bytes} {
    if (describe(of, rows) && choose())
      rows_ = rows;
  }
  ~plan() {
    if (out_ != nullptr)
      api_.forget_layout(out_);
    if (x_ != nullptr)
      api_.forget_layout(x_);
    if (w_ != nullptr)
      api_.forget_layout(w_);
    if (what_ != nullptr)
      api_.forget_description(what_);
  }
  plan(const plan&) = delete;
  plan& operator=(const plan&) = delete;

  /// Whether the kernel takes so many rows, too.
  bool takes(int64_t rows) {
    if (rows_ == 0 || rows == rows_)
      return rows_ != 0;
    const auto count = static_cast<uint64_t>(rows);
    cublasLtMatmulHeuristicResult_t found{};
    const bool taken =
        noted(api_.set_layout(x_, CUBLASLT_MATRIX_LAYOUT_COLS, &count, sizeof count)) &&
        noted(api_.set_layout(out_, CUBLASLT_MATRIX_LAYOUT_COLS, &count, sizeof count)) &&
        noted(api_.check(handle_, what_, w_, x_, out_, out_, &chosen_.algo, &found)) &&
        found.workspaceSize <= workspace_bytes_;
    rows_ = taken ? rows : other_rows;
    return taken;
  }

  /// For the rows that were taken last. False if the library refuses.
  bool run(const lt_product& of, void* workspace, cudaStream_t stream) {
    const float alpha = 1, beta = of.accumulate ? 1.0f : 0.0f;
    return set_scales(of) &&
           noted(api_.matmul(handle_, what_, &alpha, of.w, w_, of.x, x_, &beta, of.out, out_,
                             of.out, out_, &chosen_.algo, workspace, workspace_bytes_, stream));
  }
  /// Of the last call that failed.
  cublasStatus_t status() const { return status_; }

private:
  /// `rows_` where the layouts say something that the kernel does not take.
  static constexpr int64_t other_rows = -1;

  bool noted(cublasStatus_t status) {
    if (status != CUBLAS_STATUS_SUCCESS)
      status_ = status;
    return status == CUBLAS_STATUS_SUCCESS;
  }

  bool describe(const lt_product& of, int64_t rows) {
    const auto n = static_cast<uint64_t>(of.n), k = static_cast<uint64_t>(of.k);
    const auto count = static_cast<uint64_t>(rows);
    const auto type = library_type(of.type);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    return noted(api_.describe(&what_, CUBLAS_COMPUTE_32F, CUDA_R_32F)) &&
           noted(api_.set(what_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed)) &&
           set_scale_modes(of) && set_scales(of) && noted(api_.lay_out(&w_, type, k, n, of.k)) &&
           noted(api_.lay_out(&x_, type, k, count, of.x_stride)) &&
           noted(api_.lay_out(&out_, CUDA_R_32F, n, count, of.out_stride));
  }

  bool set_scale_modes(const lt_product& of) {
    const int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    return of.type != dtype::f8_e4m3 ||
           (noted(api_.set(what_, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode, sizeof mode)) &&
            noted(api_.set(what_, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode, sizeof mode)));
  }

  bool set_scales(const lt_product& of) {
    const void *w = of.w_scales, *x = of.x_scales;
    return of.type != dtype::f8_e4m3 ||
           (noted(api_.set(what_, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w, sizeof w)) &&
            noted(api_.set(what_, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x, sizeof x)));
  }

  bool prefers(cublasLtMatmulPreference_t wish) {
    bool good = noted(api_.set_preference(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                          &workspace_bytes_, sizeof workspace_bytes_));
    // Unless told, it takes kernels that want more.
    for (const auto which :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      good = good &&
             noted(api_.set_preference(wish, which, &pointer_alignment, sizeof pointer_alignment));
    return good;
  }

  bool choose() {
    cublasLtMatmulPreference_t wish = nullptr;
    int found = 0;
    const bool good =
        noted(api_.prefer(&wish)) && prefers(wish) &&
        noted(api_.heuristic(handle_, what_, w_, x_, out_, out_, wish, 1, &chosen_, &found));
    if (wish != nullptr)
      api_.forget_preference(wish);
    return good && found > 0;
  }

  const cublaslt_functions& api_;
  const cublasLtHandle_t handle_;
  const uint64_t workspace_bytes_;
  cublasLtMatmulDesc_t what_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, out_ = nullptr;
  cublasLtMatmulHeuristicResult_t chosen_{};
  int64_t rows_ = 0; ///< that the layouts say; 0 = there is no kernel
  cublasStatus_t status_ = CUBLAS_STATUS_NOT_SUPPORTED;
};

class opened_cublaslt final : public cublaslt {
public:
  opened_cublaslt(const cublaslt_functions& api, cublasLtHandle_t handle)
      : api_{api}, handle_{handle} {}
  ~opened_cublaslt() override {
    plans_.clear();
    api_.destroy(handle_);
  }

  bool multiply(const lt_product& of, void* workspace, uint64_t workspace_bytes,
                cudaStream_t stream, std::string& why) override {
    auto& how = kernel_for(of, workspace_bytes);
    return told(how.takes(of.rows) && how.run(of, workspace, stream), of, how, why);
  }

  bool takes(const lt_product& of, uint64_t workspace_bytes, std::string& why) override {
    auto& how = kernel_for(of, workspace_bytes);
    return told(how.takes(of.rows), of, how, why);
  }

  bool multiplies_f8(int major, int minor) const override {
    return major == 9 && minor == 0 && api_.version() >= f8_version_min;
  }

  std::string version() const override {
    const auto number = api_.version(); // 130001 is 13.0.1
    return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
           std::to_string(number % 100);
  }

private:
  /// Whole models have a dozen shapes each; what is forgotten is asked for again.
  static constexpr size_t plans_max = 512;

  /// That of the bucket, or one for these rows alone where that does not take them.
  plan& kernel_for(const lt_product& of, uint64_t workspace_bytes) {
    if (plans_.size() >= plans_max)
      plans_.clear();
    auto& usual = plan_for(of, lt_bucket(of.rows), workspace_bytes);
    return usual.takes(of.rows) ? usual : plan_for(of, of.rows, workspace_bytes);
  }

  static bool told(bool good, const lt_product& of, const plan& how, std::string& why) {
    if (!good)
      why = "cuBLASLt does not multiply [" + std::to_string(of.rows) + ", " + std::to_string(of.k) +
            "] with [" + std::to_string(of.n) + ", " + std::to_string(of.k) + "] in " +
            std::string{to_string(of.type)} + ": " + status_text(how.status());
    return good;
  }

  plan& plan_for(const lt_product& of, int64_t rows, uint64_t workspace_bytes) {
    auto& own = plans_[{of.type, rows, of.n, of.k, of.x_stride, of.out_stride, workspace_bytes}];
    if (!own)
      own = std::make_unique<plan>(api_, handle_, of, rows, workspace_bytes);
    return *own;
  }

  const cublaslt_functions& api_;
  cublasLtHandle_t handle_;
  std::map<std::tuple<dtype, int64_t, int64_t, int64_t, int64_t, int64_t, uint64_t>,
           std::unique_ptr<plan>>
      plans_;
};

} // namespace

std::unique_ptr<cublaslt> cublaslt::open(std::string& why) {
  const auto* api = find_cublaslt(why);
  if (api == nullptr)
    return nullptr;
  cublasLtHandle_t handle = nullptr;
  if (const auto status = api->create(&handle); status != CUBLAS_STATUS_SUCCESS) {
    why = "cuBLASLt does not start: " + status_text(status);
    return nullptr;
  }
  return std::make_unique<opened_cublaslt>(*api, handle);
}

} // namespace troupe::gpu::cuda

#else

namespace troupe::gpu::cuda {

std::unique_ptr<cublaslt> cublaslt::open(std::string& why) {
  why = "this build had no header of cuBLASLt";
  return nullptr;
}

} // namespace troupe::gpu::cuda

#endif

namespace troupe::gpu::cuda {

int64_t lt_bucket(int64_t rows) {
  const auto step =
      std::max<int64_t>(64, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows)) / 4));
  return (rows + step - 1) / step * step;
}

} // namespace troupe::gpu::cuda
