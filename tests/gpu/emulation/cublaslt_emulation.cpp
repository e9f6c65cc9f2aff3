#include <algorithm>
#include <optional>

#include "base/half.hpp"
#include "cublasLt.h"
#include "gpu/cuda/cublaslt_library.hpp"

struct emulated_lt {};
struct emulated_lt_description {
  bool transposes_a = false;
};
struct emulated_lt_layout {
  cudaDataType_t type;
  uint64_t rows, cols; ///< columns lie behind one another, `ld` elements apart
  int64_t ld;
};
struct emulated_lt_preference {
  uint64_t workspace_bytes = 0;
  uint32_t alignments[4] = {256, 256, 256, 256}; ///< of a, b, c and d
};

namespace troupe::cublaslt_emulation {
namespace {

counts so_far;
behaviour asked;

/// What the eight words of a kernel hold.
struct kernel {
  uint64_t type, columns, depth, rows;
  uint64_t alignments[4];
};
static_assert(sizeof(kernel) == sizeof(cublasLtMatmulAlgo_t));

template <class T>
cublasStatus_t made(T** out, T&& value) {
  *out = new T{value};
  ++so_far.alive;
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t gone(T* what) {
  delete what;
  --so_far.alive;
  return CUBLAS_STATUS_SUCCESS;
}

uint64_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

float element(const void* data, const emulated_lt_layout& layout, uint64_t row, uint64_t col) {
  const auto at = row + col * static_cast<uint64_t>(layout.ld);
  if (layout.type == CUDA_R_32F)
    return static_cast<const float*>(data)[at];
  const auto bits = static_cast<const uint16_t*>(data)[at];
  return layout.type == CUDA_R_16BF ? bf16_to_float(bits) : f16_to_float(bits);
}

/// The matrices of one product.
struct operands {
  emulated_lt_description what;
  emulated_lt_layout a, b, c, d;

  uint64_t columns() const { return what.transposes_a ? a.cols : a.rows; }
  uint64_t depth() const { return what.transposes_a ? a.rows : a.cols; }
  bool fit() const {
    const auto whole = [](const auto& x) { return x.ld >= static_cast<int64_t>(x.rows); };
    return whole(a) && whole(b) && whole(c) && whole(d) && a.type == b.type &&
           a.type != CUDA_R_32F && c.type == CUDA_R_32F && d.type == CUDA_R_32F &&
           b.rows == depth() && c.rows == columns() && d.rows == columns() && c.cols == b.cols &&
           d.cols == b.cols;
  }
  /// Leading dimensions have to be as aligned as pointers.
  bool aligned(const uint64_t (&to)[4]) const {
    const emulated_lt_layout* all[] = {&a, &b, &c, &d};
    for (size_t i = 0; i < 4; ++i)
      if (static_cast<uint64_t>(all[i]->ld) * size_of(all[i]->type) % std::min<uint64_t>(to[i], 16))
        return false;
    return true;
  }
  bool suits(const kernel& how) const {
    return how.type == static_cast<uint64_t>(a.type) && how.columns == columns() &&
           how.depth == depth() && b.cols <= how.rows &&
           static_cast<double>(b.cols) >= asked.least_share * static_cast<double>(how.rows);
  }
  void multiply(const void* a_data, const void* b_data, float* out, float beta) const {
    for (uint64_t row = 0; row < d.cols; ++row)
      for (uint64_t column = 0; column < d.rows; ++column) {
        float sum = 0;
        for (uint64_t i = 0; i < depth(); ++i)
          sum +=
              (what.transposes_a ? element(a_data, a, i, column) : element(a_data, a, column, i)) *
              element(b_data, b, i, row);
        float& to = out[row * static_cast<uint64_t>(d.ld) + column];
        to = beta == 0 ? sum : sum + beta * to;
      }
  }
};

/// Odd leading dimensions get kernels that take them; the others those that are as aligned as was
/// wished.
kernel kernel_for(const operands& of, const emulated_lt_preference& wish) {
  kernel out{static_cast<uint64_t>(of.a.type), of.columns(), of.depth(), of.b.cols, {}};
  std::copy(std::begin(wish.alignments), std::end(wish.alignments), out.alignments);
  if (!of.aligned(out.alignments))
    std::fill(std::begin(out.alignments), std::end(out.alignments), 4);
  return out;
}

} // namespace

counts counted() { return so_far; }
void reset(const behaviour& how) {
  so_far.heuristics = so_far.products = 0;
  asked = how;
}

} // namespace troupe::cublaslt_emulation

using namespace troupe::cublaslt_emulation;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* out) {
  return asked.does_not_start ? CUBLAS_STATUS_NOT_INITIALIZED : made(out, emulated_lt{});
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return gone(handle); }
size_t cublasLtGetVersion() { return 130102; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return made(out, emulated_lt_description{});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t what) { return gone(what); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t what,
                                              cublasLtMatmulDescAttributes_t which,
                                              const void* value, size_t size) {
  if (which != CUBLASLT_MATMUL_DESC_TRANSA || size != sizeof(cublasOperation_t))
    return CUBLAS_STATUS_INVALID_VALUE;
  what->transposes_a = *static_cast<const cublasOperation_t*>(value) == CUBLAS_OP_T;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* out, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  return made(out, emulated_lt_layout{type, rows, cols, ld});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return gone(layout); }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t which,
                                                const void* value, size_t size) {
  if (which != CUBLASLT_MATRIX_LAYOUT_COLS || size != sizeof layout->cols)
    return CUBLAS_STATUS_INVALID_VALUE;
  layout->cols = *static_cast<const uint64_t*>(value);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* out) {
  return made(out, emulated_lt_preference{});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish) {
  return gone(wish);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void* value, size_t size) {
  const auto of = static_cast<size_t>(which);
  if (which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && size == sizeof wish->workspace_bytes)
    wish->workspace_bytes = *static_cast<const uint64_t*>(value);
  else if (of >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && size == sizeof(uint32_t))
    wish->alignments[of - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES] =
        *static_cast<const uint32_t*>(value);
  else
    return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t what,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int wanted,
                                              cublasLtMatmulHeuristicResult_t* out, int* found) {
  ++so_far.heuristics;
  *found = 0;
  const operands all{*what, *a, *b, *c, *d};
  if (!all.fit() || wanted < 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (all.columns() > asked.columns_max)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto how = kernel_for(all, *wish);
  std::memcpy(&out->algo, &how, sizeof how);
  out->workspaceSize = static_cast<size_t>(wish->workspace_bytes);
  out->state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t what,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* out) {
  const operands all{*what, *a, *b, *c, *d};
  kernel how;
  std::memcpy(&how, algo, sizeof how);
  out->workspaceSize = 0;
  if (!all.fit())
    return CUBLAS_STATUS_INVALID_VALUE;
  return all.suits(how) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t what, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  const operands all{*what, *a_layout, *b_layout, *c_layout, *d_layout};
  kernel how;
  std::memcpy(&how, algo, sizeof how);
  const void* pointers[] = {a, b, c, d};
  bool good = all.fit() && all.suits(how) && all.aligned(how.alignments) && c == d &&
              *static_cast<const float*>(alpha) == 1;
  for (size_t i = 0; i < 4; ++i)
    good = good && reinterpret_cast<uintptr_t>(pointers[i]) % how.alignments[i] == 0;
  if (!good)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (so_far.products >= asked.products_max)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  ++so_far.products;
  const auto run = [=, beta = *static_cast<const float*>(beta)] {
    std::memset(workspace, 0xff, workspace_bytes);
    all.multiply(a, b, static_cast<float*>(d), beta);
  };
  if (troupe::cuda_emulation::is_capturing(stream)) {
    troupe::cuda_emulation::capture(stream, run);
    return CUBLAS_STATUS_SUCCESS;
  }
  troupe::cuda_emulation::settle(stream);
  run();
  return CUBLAS_STATUS_SUCCESS;
}

namespace troupe::gpu::cuda {

const cublaslt_functions* find_cublaslt(std::string& why) {
  static const cublaslt_functions table{
      &cublasLtCreate,
      &cublasLtDestroy,
      &cublasLtGetVersion,
      &cublasLtMatmul,
      &cublasLtMatmulDescCreate,
      &cublasLtMatmulDescDestroy,
      &cublasLtMatmulDescSetAttribute,
      &cublasLtMatrixLayoutCreate,
      &cublasLtMatrixLayoutDestroy,
      &cublasLtMatrixLayoutSetAttribute,
      &cublasLtMatmulPreferenceCreate,
      &cublasLtMatmulPreferenceDestroy,
      &cublasLtMatmulPreferenceSetAttribute,
      &cublasLtMatmulAlgoGetHeuristic,
      &cublasLtMatmulAlgoCheck,
  };
  if (asked.missing) {
    why = "there is no emulated cuBLASLt";
    return nullptr;
  }
  return &table;
}

} // namespace troupe::gpu::cuda
