#pragma once
#include "gpu/kernels/device_math.cuh"

namespace troupe::gpu::kernels {

/// c += a * b for a 16x16 times 16x8 product in bf16 with float sums, by a whole warp: PTX ISA,
/// `mma.sync.aligned.m16n8k16`. With g = lane / 4 and t = lane % 4, each register holding two
/// neighbours in k (a, b) or one element (c):
///   a: rows g, g + 8, g, g + 8 at k = 2t, 2t, 2t + 8, 2t + 8;  b: column g at k = 2t, 2t + 8;
///   c: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
/// A column of c depends on the same column of b alone, so what else is in the tile never shows.
__device__ inline void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                uint32_t b0, uint32_t b1) {
#ifdef __CUDA_ARCH__
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#elif defined(TROUPE_EMULATED_CUDA)
  cuda_emulation::mma_bf16(c, a0, a1, a2, a3, b0, b1);
#endif
}

/// Two such products over 32 elements of k, of which each thread holds eight neighbours (k = 8t
/// .. 8t + 7) of its rows and its column, as one 16-byte load gives them. The products take the
/// elements in another order than they lie, the same one on both sides.
__device__ inline void mma_bf16_k32(float (&c)[4], uint4 a_low, uint4 a_high, uint4 b) {
  mma_bf16(c, a_low.x, a_high.x, a_low.y, a_high.y, b.x, b.y);
  mma_bf16(c, a_low.z, a_high.z, a_low.w, a_high.w, b.z, b.w);
}

} // namespace troupe::gpu::kernels
