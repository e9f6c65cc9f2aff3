#include "gpu/cuda/cublaslt.hpp"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <tuple>

namespace troupe::gpu::cuda {
namespace {

/// The functions that are used, by the names they have in the library.
struct functions {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) describe = nullptr;
  decltype(&cublasLtMatmulDescDestroy) forget_description = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) lay_out = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) forget_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) prefer = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) forget_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
};

template <class F>
bool find(void* library, const char* name, F& to, std::string& why) {
  to = reinterpret_cast<F>(dlsym(library, name));
  if (to == nullptr)
    why = std::string{"the library has no "} + name;
  return to != nullptr;
}

bool find_all(void* library, functions& to, std::string& why) {
  return find(library, "cublasLtCreate", to.create, why) &&
         find(library, "cublasLtDestroy", to.destroy, why) &&
         find(library, "cublasLtGetVersion", to.version, why) &&
         find(library, "cublasLtMatmul", to.matmul, why) &&
         find(library, "cublasLtMatmulDescCreate", to.describe, why) &&
         find(library, "cublasLtMatmulDescDestroy", to.forget_description, why) &&
         find(library, "cublasLtMatmulDescSetAttribute", to.set, why) &&
         find(library, "cublasLtMatrixLayoutCreate", to.lay_out, why) &&
         find(library, "cublasLtMatrixLayoutDestroy", to.forget_layout, why) &&
         find(library, "cublasLtMatmulPreferenceCreate", to.prefer, why) &&
         find(library, "cublasLtMatmulPreferenceDestroy", to.forget_preference, why) &&
         find(library, "cublasLtMatmulPreferenceSetAttribute", to.set_preference, why) &&
         find(library, "cublasLtMatmulAlgoGetHeuristic", to.heuristic, why);
}

/// Opened once and never closed: the library's own threads and hooks outlive its last handle.
const functions* opened(std::string& why) {
  static std::string trouble;
  static const functions* found = []() -> const functions* {
    void* library = nullptr;
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"})
      if ((library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) != nullptr)
        break;
    static functions table;
    if (library == nullptr) {
      const char* said = dlerror();
      trouble = std::string{"there is no libcublasLt.so.13 or .12 that the loader finds ("} +
                (said != nullptr ? said : "") + "); LD_LIBRARY_PATH may name its folder";
      return nullptr;
    }
    return find_all(library, table, trouble) ? &table : nullptr;
  }();
  why = trouble;
  return found;
}

/// The library counts columns first: a row-major matrix is its transpose there. So the product is
/// out^T [n, rows] = w [n, k] * x^T [k, rows], with w transposed in memory.
class plan {
public:
  plan(const functions& api, const lt_product& of) : api_{api} {
    const auto n = static_cast<uint64_t>(of.n), k = static_cast<uint64_t>(of.k);
    const auto rows = static_cast<uint64_t>(of.rows);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    good_ = api.describe(&what_, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
            api.set(what_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) ==
                CUBLAS_STATUS_SUCCESS &&
            api.lay_out(&w_, CUDA_R_16BF, k, n, of.k) == CUBLAS_STATUS_SUCCESS &&
            api.lay_out(&x_, CUDA_R_16BF, k, rows, of.x_stride) == CUBLAS_STATUS_SUCCESS &&
            api.lay_out(&out_, CUDA_R_32F, n, rows, of.out_stride) == CUBLAS_STATUS_SUCCESS;
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

  /// Asks for the kernel that should be fastest.
  bool choose(cublasLtHandle_t handle, uint64_t workspace_bytes) {
    cublasLtMatmulPreference_t wish = nullptr;
    int found = 0;
    good_ = good_ && api_.prefer(&wish) == CUBLAS_STATUS_SUCCESS &&
            api_.set_preference(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                sizeof workspace_bytes) == CUBLAS_STATUS_SUCCESS &&
            api_.heuristic(handle, what_, w_, x_, out_, out_, wish, 1, &chosen_, &found) ==
                CUBLAS_STATUS_SUCCESS &&
            found > 0;
    if (wish != nullptr)
      api_.forget_preference(wish);
    return good_;
  }

  cublasStatus_t run(cublasLtHandle_t handle, const lt_product& of, void* workspace,
                     uint64_t workspace_bytes, cudaStream_t stream) const {
    if (!good_)
      return CUBLAS_STATUS_NOT_SUPPORTED;
    const float alpha = 1, beta = of.accumulate ? 1.0f : 0.0f;
    return api_.matmul(handle, what_, &alpha, of.w, w_, of.x, x_, &beta, of.out, out_, of.out, out_,
                       &chosen_.algo, workspace, workspace_bytes, stream);
  }

private:
  const functions& api_;
  cublasLtMatmulDesc_t what_ = nullptr;
  cublasLtMatrixLayout_t w_ = nullptr, x_ = nullptr, out_ = nullptr;
  cublasLtMatmulHeuristicResult_t chosen_{};
  bool good_ = false;
};

class opened_cublaslt final : public cublaslt {
public:
  opened_cublaslt(const functions& api, cublasLtHandle_t handle) : api_{api}, handle_{handle} {}
  ~opened_cublaslt() override {
    plans_.clear();
    api_.destroy(handle_);
  }

  bool multiply(const lt_product& of, void* workspace, uint64_t workspace_bytes,
                cudaStream_t stream, std::string& why) override {
    if (plans_.size() >= plans_max)
      plans_.clear();
    auto& own = plans_[{of.rows, of.n, of.k, of.x_stride, of.out_stride, workspace_bytes}];
    if (!own) {
      own = std::make_unique<plan>(api_, of);
      own->choose(handle_, workspace_bytes);
    }
    const auto status = own->run(handle_, of, workspace, workspace_bytes, stream);
    if (status != CUBLAS_STATUS_SUCCESS)
      why = "cuBLASLt does not multiply [" + std::to_string(of.rows) + ", " + std::to_string(of.k) +
            "] with [" + std::to_string(of.n) + ", " + std::to_string(of.k) + "]: status " +
            std::to_string(static_cast<int>(status));
    return status == CUBLAS_STATUS_SUCCESS;
  }

  uint64_t version() const override { return api_.version(); }

private:
  /// Prompts end in any number of rows; what is forgotten is asked for again.
  static constexpr size_t plans_max = 4096;
  const functions& api_;
  cublasLtHandle_t handle_;
  std::map<std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, uint64_t>, std::unique_ptr<plan>>
      plans_;
};

} // namespace

std::unique_ptr<cublaslt> cublaslt::open(std::string& why) {
  const auto* api = opened(why);
  if (api == nullptr)
    return nullptr;
  cublasLtHandle_t handle = nullptr;
  if (const auto status = api->create(&handle); status != CUBLAS_STATUS_SUCCESS) {
    why = "cuBLASLt does not start: status " + std::to_string(static_cast<int>(status));
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
