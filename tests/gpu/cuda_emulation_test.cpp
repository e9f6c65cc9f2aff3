#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/half.hpp"

namespace troupe::gpu {
namespace {

/// The emulation itself: a kernel that is wrong on a device must be wrong here.
void run(unsigned threads, const std::function<void()>& thread) {
  cuda_emulation::run_grid({2, 1, 1}, {threads, 1, 1}, thread);
}

TEST(cuda_emulation_test, every_thread_of_every_block_runs_once) {
  std::vector<int> ran(2 * 96);
  run(96, [&] { ++ran[blockIdx.x * 96 + threadIdx.x]; });
  EXPECT_EQ(ran, std::vector<int>(ran.size(), 1));
}

TEST(cuda_emulation_test, a_barrier_is_needed_to_see_what_others_wrote) {
  for (const bool waits : {true, false}) {
    std::vector<int> written(64), seen(64);
    run(64, [&] {
      written[threadIdx.x] = static_cast<int>(blockIdx.x) + 1;
      if (waits)
        __syncthreads();
      seen[threadIdx.x] = written[63 - threadIdx.x];
      __syncthreads();
    });
    EXPECT_EQ(seen == std::vector<int>(64, 2), waits);
  }
}

TEST(cuda_emulation_test, threads_that_returned_are_not_waited_for) {
  int passed = 0;
  run(64, [&] {
    if (threadIdx.x % 2 == 0)
      return;
    __syncwarp();
    __syncthreads();
    ++passed;
  });
  EXPECT_EQ(passed, 64);
}

TEST(cuda_emulation_test, shuffles_exchange_values_of_one_warp) {
  std::vector<unsigned> got(64);
  run(64, [&] {
    const unsigned value = threadIdx.x * 10;
    const auto neighbour = __shfl_xor_sync(~0u, value, 1);
    const auto before = __shfl_up_sync(~0u, neighbour, 2);
    got[threadIdx.x] = __shfl_sync(~0u, before, 5);
  });
  for (unsigned i = 0; i < 64; ++i) // lane 5 has lane 3's, which is lane 2's
    EXPECT_EQ(got[i], (i / 32 * 32 + 2) * 10) << i;
}

/// Element (row, col) of operands whose product is known: a is a permutation, b counts.
TEST(cuda_emulation_test, the_matrix_instruction_multiplies_by_its_documented_layout) {
  const auto a = [](unsigned row, unsigned k) { return k == (row * 5 + 3) % 16 ? 2.0f : 0.0f; };
  const auto b = [](unsigned k, unsigned col) { return static_cast<float>(k * 8 + col); };
  const auto pack = [](float low, float high) {
    return float_to_bf16(low) | static_cast<uint32_t>(float_to_bf16(high)) << 16;
  };
  std::vector<float> c(16 * 8);
  run(32, [&] {
    // PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
    const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    const auto of_a = [&](unsigned row, unsigned k) { return pack(a(row, k), a(row, k + 1)); };
    const auto of_b = [&](unsigned k) { return pack(b(k, g), b(k + 1, g)); };
    float out[4] = {1, 1, 1, 1};
    cuda_emulation::mma_bf16(out, of_a(g, 2 * t), of_a(g + 8, 2 * t), of_a(g, 2 * t + 8),
                             of_a(g + 8, 2 * t + 8), of_b(2 * t), of_b(2 * t + 8));
    for (unsigned i = 0; i < 4; ++i)
      c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = out[i];
  });
  for (unsigned row = 0; row < 16; ++row)
    for (unsigned col = 0; col < 8; ++col)
      EXPECT_EQ(c[row * 8 + col], 1 + 2 * b((row * 5 + 3) % 16, col)) << row << ", " << col;
}

} // namespace
} // namespace troupe::gpu
