#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

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

constexpr int tile_chains = 6;

/// What `ldtilecfg` reads: every tile has 16 rows of 64 bytes.
struct alignas(64) tile_config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(tile_config) == 64);

/// The same with tiles: six sums, and two sources that are zero.
#define TROUPE_TILE_LOOP(instruction)                                                              \
  const tile_config config;                                                                        \
  int left = rounds;                                                                               \
  asm volatile("ldtilecfg %1\n\t"                                                                  \
               ".irp r,0,1,2,3,4,5,6,7\n\t"                                                        \
               "tilezero %%tmm\\r\n\t"                                                             \
               ".endr\n"                                                                           \
               "1:\n\t"                                                                            \
               ".irp r,0,1,2,3,4,5\n\t" instruction " %%tmm7, %%tmm6, %%tmm\\r\n\t"                \
               ".endr\n\t"                                                                         \
               "decl %0\n\t"                                                                       \
               "jnz 1b\n\t"                                                                        \
               "tilerelease"                                                                       \
               : "+r"(left)                                                                        \
               : "m"(config)                                                                       \
               : "cc")

void bf16_tiles() { TROUPE_TILE_LOOP("tdpbf16ps"); }
void int8_tiles() { TROUPE_TILE_LOOP("tdpbssd"); }

#undef TROUPE_TILE_LOOP

/// Whether the processor has tiles for such products and the kernel lets this process use them.
bool has_tiles(unsigned feature_bit) {
  constexpr unsigned tile_bit = 1u << 24; // of the same register
  constexpr int request_permission = 0x1023, tile_data = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & tile_bit) != 0 &&
         (d & feature_bit) != 0 && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

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
  const auto probe = [&](const char* name, void (*burst)(), int ops_per_instruction,
                         int instructions = chains) {
    const double ops = double{rounds} * instructions * ops_per_instruction;
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
  if (has_tiles(1u << 22))
    probe("bf16 tiles", bf16_tiles, 2 * 16 * 16 * 32, tile_chains);
  if (has_tiles(1u << 25))
    probe("int8 tiles", int8_tiles, 2 * 16 * 16 * 64, tile_chains);
  return out;
}

} // namespace troupe::cli::bench
