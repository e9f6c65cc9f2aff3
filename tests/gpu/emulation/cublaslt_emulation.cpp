#include <algorithm>
#include <optional>

#include "base/half.hpp"
#include "cublasLt.h"
#include "gpu/cuda/cublaslt_library.hpp"

struct emulated_lt {};
struct emulated_lt_description {
  bool transposes_a = false;
  int32_t scale_modes[2] = {}; ///< of a and b
  const float* scales[2] = {};
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

uint64_t size_of(cudaDataType_t type) {
  return type == CUDA_R_32F ? 4 : type == CUDA_R_8F_E4M3 ? 1 : 2;
}

float element(const void* data, const emulated_lt_layout& layout, uint64_t row, uint64_t col) {
  const auto at = row + col * static_cast<uint64_t>(layout.ld);
  if (layout.type == CUDA_R_32F)
    return static_cast<const float*>(data)[at];
  if (layout.type == CUDA_R_8F_E4M3)
    return f8_e4m3_to_float(static_cast<const uint8_t*>(data)[at]);
  const auto bits = static_cast<const uint16_t*>(data)[at];
  return layout.type == CUDA_R_16BF ? bf16_to_float(bits) : f16_to_float(bits);
}

bool is_hopper() {
  cudaDeviceProp found;
  return cudaGetDeviceProperties(&found, 0) == cudaSuccess && found.major == 9 && found.minor == 0;
}

/// Elements along k that share a scale.
constexpr uint64_t scaled = 128;

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
           d.cols == b.cols && (is_f8() ? f8_fits() : !has_scale_modes());
  }
  bool is_f8() const { return a.type == CUDA_R_8F_E4M3; }
  bool has_scale_modes() const { return what.scale_modes[0] != 0 || what.scale_modes[1] != 0; }
  bool f8_fits() const {
    const auto scales_fit = [&](int of) {
      return what.scale_modes[of] == CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F &&
             what.scales[of] != nullptr && reinterpret_cast<uintptr_t>(what.scales[of]) % 16 == 0;
    };
    return what.transposes_a && scales_fit(0) && scales_fit(1) && columns() % 4 == 0 &&
           d.cols % 4 == 0 && depth() % 16 == 0 && aligned({16, 16, 16, 16});
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
  /// Of elements first .. last - 1 along k.
  float sum_of(const void* a_data, const void* b_data, uint64_t column, uint64_t row,
               uint64_t first, uint64_t last) const {
    float sum = 0;
    for (uint64_t i = first; i < last; ++i)
      sum += (what.transposes_a ? element(a_data, a, i, column) : element(a_data, a, column, i)) *
             element(b_data, b, i, row);
    return sum;
  }
  float scaled_sum(const void* a_data, const void* b_data, uint64_t column, uint64_t row) const {
    float sum = 0;
    for (uint64_t i = 0; i < depth(); i += scaled)
      sum += sum_of(a_data, b_data, column, row, i, std::min(i + scaled, depth())) *
             what.scales[0][i / scaled * columns() + column] *
             what.scales[1][i / scaled * d.cols + row];
    return sum;
  }
  /// Its last row.
  void spoil(float* out) const {
    std::fill_n(out + (d.cols - 1) * static_cast<uint64_t>(d.ld), d.rows, 0.0f);
  }
  void multiply(const void* a_data, const void* b_data, float* out, float beta) const {
    for (uint64_t row = 0; row < d.cols; ++row)
      for (uint64_t column = 0; column < d.rows; ++column) {
        const float sum = is_f8() ? scaled_sum(a_data, b_data, column, row)
                                  : sum_of(a_data, b_data, column, row, 0, depth());
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
  so_far.heuristics = so_far.products = so_far.f8_products = 0;
  asked = how;
}

} // namespace troupe::cublaslt_emulation

using namespace troupe::cublaslt_emulation;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* out) {
  return asked.does_not_start ? CUBLAS_STATUS_NOT_INITIALIZED : made(out, emulated_lt{});
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return gone(handle); }
size_t cublasLtGetVersion() { return asked.version; }

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
  const auto read = [&](auto& to) {
    if (size != sizeof to)
      return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, size);
    return CUBLAS_STATUS_SUCCESS;
  };
  const bool knows_scales = asked.version >= 120900;
  auto operation = CUBLAS_OP_N;
  switch (which) {
  case CUBLASLT_MATMUL_DESC_TRANSA: {
    const auto status = read(operation);
    what->transposes_a = operation == CUBLAS_OP_T;
    return status;
  }
  case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER:
    return read(what->scales[0]);
  case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER:
    return read(what->scales[1]);
  case CUBLASLT_MATMUL_DESC_A_SCALE_MODE:
    return knows_scales ? read(what->scale_modes[0]) : CUBLAS_STATUS_INVALID_VALUE;
  case CUBLASLT_MATMUL_DESC_B_SCALE_MODE:
    return knows_scales ? read(what->scale_modes[1]) : CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_INVALID_VALUE;
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
  if (all.columns() > asked.columns_max || (all.is_f8() && (asked.no_f8 || !is_hopper())))
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
  so_far.f8_products += all.is_f8() ? 1 : 0;
  const auto run = [=, beta = *static_cast<const float*>(beta)] {
    std::memset(workspace, 0xff, workspace_bytes);
    all.multiply(a, b, static_cast<float*>(d), beta);
    if (asked.is_wrong)
      all.spoil(static_cast<float*>(d));
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
