#if __has_include(<cublasLt.h>)
#include "gpu/cuda/cublaslt_library.hpp"

#include <dlfcn.h>

namespace troupe::gpu::cuda {
namespace {

template <class F>
bool find(void* library, const char* name, F& to, std::string& why) {
  to = reinterpret_cast<F>(dlsym(library, name));
  if (to == nullptr)
    why = std::string{"the library has no "} + name;
  return to != nullptr;
}

bool find_all(void* library, cublaslt_functions& to, std::string& why) {
  return find(library, "cublasLtCreate", to.create, why) &&
         find(library, "cublasLtDestroy", to.destroy, why) &&
         find(library, "cublasLtGetVersion", to.version, why) &&
         find(library, "cublasLtMatmul", to.matmul, why) &&
         find(library, "cublasLtMatmulDescCreate", to.describe, why) &&
         find(library, "cublasLtMatmulDescDestroy", to.forget_description, why) &&
         find(library, "cublasLtMatmulDescSetAttribute", to.set, why) &&
         find(library, "cublasLtMatrixLayoutCreate", to.lay_out, why) &&
         find(library, "cublasLtMatrixLayoutDestroy", to.forget_layout, why) &&
         find(library, "cublasLtMatrixLayoutSetAttribute", to.set_layout, why) &&
         find(library, "cublasLtMatmulPreferenceCreate", to.prefer, why) &&
         find(library, "cublasLtMatmulPreferenceDestroy", to.forget_preference, why) &&
         find(library, "cublasLtMatmulPreferenceSetAttribute", to.set_preference, why) &&
         find(library, "cublasLtMatmulAlgoGetHeuristic", to.heuristic, why) &&
         find(library, "cublasLtMatmulAlgoCheck", to.check, why);
}

} // namespace

// Never closed: the library's own threads and hooks outlive its last handle.
const cublaslt_functions* find_cublaslt(std::string& why) {
  static std::string trouble;
  static const cublaslt_functions* found = []() -> const cublaslt_functions* {
    void* library = nullptr;
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"})
      if ((library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) != nullptr)
        break;
    static cublaslt_functions table;
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

} // namespace troupe::gpu::cuda
#endif
