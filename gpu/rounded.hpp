#pragma once

/// Float arithmetic that is the same bits on the host and in kernels.
#ifdef __CUDACC__
#define TROUPE_EVERYWHERE __host__ __device__
#else
#define TROUPE_EVERYWHERE
#endif

namespace troupe::gpu {

/// A product and a sum that no compiler fuses.
TROUPE_EVERYWHERE inline float product(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
TROUPE_EVERYWHERE inline float sum(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

} // namespace troupe::gpu
