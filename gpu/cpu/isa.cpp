#include "gpu/cpu/isa.hpp"

#include <cpuid.h>

#include <algorithm>

#include "gpu/device.hpp"

namespace troupe::gpu {
namespace {

const std::vector<std::string> all_isas{"portable", "avx2", "avx512", "avx512_bf16"};

/// clang 14 has no name for it in its built-in.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

/// Index in `all_isas` of the best one here. The built-ins also ask whether the operating system
/// saves the wide registers.
size_t best_isa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
    return 0;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
    return 1;
  return __builtin_cpu_supports("avx512bf16") ? 3 : 2;
}

} // namespace

std::vector<std::string> cpu_isas() {
  return {all_isas.begin(), all_isas.begin() + static_cast<ptrdiff_t>(best_isa()) + 1};
}

namespace cpu {

isa_choice choose_isa(std::string_view name, bool bf16_products) {
  size_t index = best_isa();
  if (!name.empty()) {
    const auto found = std::find(all_isas.begin(), all_isas.end(), name);
    index = std::min(index,
                     found == all_isas.end() ? 0 : static_cast<size_t>(found - all_isas.begin()));
  }
  if (!bf16_products)
    index = std::min(index, size_t{2});
  const kernel_table* const tables[] = {&portable_kernels, &avx2_kernels, &avx512_kernels,
                                        &avx512_kernels};
  isa_choice choice{all_isas[index], *tables[index]};
  if (index == 3) {
    choice.kernels.linear_bf16_dot = avx512_bf16_linear;
    choice.kernels.expand_bf16[0] = avx512_bf16_expand_q8_0;
    choice.kernels.expand_bf16[1] = avx512_bf16_expand_q4_0;
    choice.kernels.linear_blocks_dot[0] = avx512_bf16_linear_q8_0;
    choice.kernels.linear_blocks_dot[1] = avx512_bf16_linear_q4_0;
  }
  return choice;
}

} // namespace cpu
} // namespace troupe::gpu
