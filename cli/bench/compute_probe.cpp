#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "cli/bench/ceilings.hpp"

namespace troupe::cli::bench {
namespace {

using clock = std::chrono::steady_clock;

constexpr auto probe_time = std::chrono::milliseconds{50};
constexpr int rounds = 20'000, chains = 12;

/// A loop of twelve products and sums that do not wait for each other, in assembly because the
/// compiler would keep the sums in memory and measure its stores. The sources are register 15; it
/// and the sums are zero, which costs these instructions as much as any other number. The file is
/// compiled without AVX-512, so nothing else lives in the upper halves that this clobbers.
#define TROUPE_REGISTER_LOOP(width, instruction)                                                   \
  int left = rounds;                                                                               \
  asm volatile("vzeroall\n"                                                                        \
               "1:\n\t"                                                                            \
               ".irp r,0,1,2,3,4,5,6,7,8,9,10,11\n\t" instruction " %%" width "15, %%" width       \
               "15, %%" width "\\r\n\t"                                                            \
               ".endr\n\t"                                                                         \
               "decl %0\n\t"                                                                       \
               "jnz 1b\n\t"                                                                        \
               "vzeroupper"                                                                        \
               : "+r"(left)                                                                        \
               :                                                                                   \
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",     \
                 "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

void fma_256() { TROUPE_REGISTER_LOOP("ymm", "vfmadd231ps"); }
void fma_512() { TROUPE_REGISTER_LOOP("zmm", "vfmadd231ps"); }
void bf16_512() { TROUPE_REGISTER_LOOP("zmm", "vdpbf16ps"); }
void int8_512() { TROUPE_REGISTER_LOOP("zmm", "vpdpbusd"); }

#undef TROUPE_REGISTER_LOOP

/// Runs bursts on all threads at once for a while; the sum of each thread's best, in calls a
/// second.
double bursts_per_second(unsigned threads, void (*burst)()) {
  std::vector<double> best(threads);
  std::atomic<unsigned> ready{0};
  const auto work = [&](double& mine) {
    ++ready;
    while (ready < threads)
      std::this_thread::yield();
    const auto end = clock::now() + probe_time;
    for (auto begun = clock::now(); begun < end;) {
      burst();
      const auto now = clock::now();
      mine = std::max(mine, 1 / std::chrono::duration<double>(now - begun).count());
      begun = now;
    }
  };
  std::vector<std::thread> helpers;
  for (unsigned i = 1; i < threads; ++i)
    helpers.emplace_back([&, i] { work(best[i]); });
  work(best[0]);
  for (auto& helper : helpers)
    helper.join();
  double sum = 0;
  for (const auto one : best)
    sum += one;
  return sum;
}

} // namespace

std::vector<compute_ceiling> measure_compute(unsigned threads) {
  __builtin_cpu_init();
  std::vector<compute_ceiling> out;
  const auto probe = [&](const char* name, void (*burst)(), int ops_per_instruction) {
    const double ops = double{rounds} * chains * ops_per_instruction;
    out.push_back({name, bursts_per_second(threads, burst) * ops});
  };
  if (__builtin_cpu_supports("avx512f"))
    probe("f32 fma", fma_512, 2 * 16);
  else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    probe("f32 fma", fma_256, 2 * 8);
  if (__builtin_cpu_supports("avx512bf16"))
    probe("bf16 dot", bf16_512, 2 * 32);
  if (__builtin_cpu_supports("avx512vnni"))
    probe("int8 dot", int8_512, 2 * 64);
  return out;
}

} // namespace troupe::cli::bench
