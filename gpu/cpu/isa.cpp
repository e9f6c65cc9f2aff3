#include "gpu/cpu/isa.hpp"

#include <cpuid.h>

#include <algorithm>

#include "gpu/cpu/amx.hpp"
#include "gpu/device.hpp"

namespace troupe::gpu {
namespace {

/// The compilers' built-ins have no names for these.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool says_avx_vnni() {
  constexpr unsigned avx_vnni_bit = 1u << 4;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & avx_vnni_bit) != 0;
}

// The built-ins also ask whether the operating system saves the wide registers.
bool has_sse42() { return true; } // the build asks for it everywhere
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx_vnni() { return has_avx2() && says_avx_vnni(); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool has_avx512_bf16() { return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }

/// Its kernels have no name: of the processors with AVX-512 BF16, only the first lacks it.
bool has_avx512_vbmi() { return __builtin_cpu_supports("avx512vbmi"); }

constexpr auto f8_kind = static_cast<size_t>(cpu::panel_kind::f8_b128);
constexpr auto bf16_kind = static_cast<size_t>(cpu::panel_kind::bf16);

cpu::kernel_table with_avx_vnni() {
  auto table = cpu::avx2_kernels;
  std::copy_n(cpu::avx_vnni_byte_panels, cpu::byte_panel_kinds, table.linear_panels);
  return table;
}
cpu::kernel_table with_avx512_vnni() {
  auto table = cpu::avx512_kernels;
  std::copy_n(cpu::avx512_vnni_byte_panels, cpu::byte_panel_kinds, table.linear_panels);
  return table;
}
cpu::kernel_table with_avx512_bf16() {
  auto table = with_avx512_vnni();
  table.linear_bf16_dot = cpu::avx512_bf16_linear;
  table.linear_panels[bf16_kind] = cpu::avx512_bf16_linear_panels;
  if (has_avx512_vbmi())
    table.linear_panels[f8_kind] = cpu::avx512_f8_linear_panels;
  table.attention_pairs = cpu::avx512_bf16_attention_pairs;
  table.write_key_pairs = cpu::avx512_bf16_write_key_pairs;
  table.write_value_pairs = cpu::avx512_bf16_write_value_pairs;
  return table;
}
cpu::kernel_table with_amx() {
  auto table = with_avx512_bf16();
  std::copy_n(cpu::amx_byte_panels, cpu::byte_panel_kinds, table.linear_panels);
  table.linear_panels[bf16_kind] = cpu::amx_linear_bf16;
  table.panel_call_rows = cpu::amx_call_rows;
  return table;
}
bool has_amx() { return has_avx512_bf16() && cpu::amx_works(with_amx(), with_avx512_bf16()); }

struct isa {
  const char* name;
  bool (*is_here)();
  cpu::kernel_table (*kernels)();
};

/// Every choice of instructions, best last.
constexpr isa all_isas[] = {
    {"portable", has_sse42, [] { return cpu::portable_kernels; }},
    {"avx2", has_avx2, [] { return cpu::avx2_kernels; }},
    {"avx_vnni", has_avx_vnni, with_avx_vnni},
    {"avx512", has_avx512, [] { return cpu::avx512_kernels; }},
    {"avx512_vnni", has_avx512_vnni, with_avx512_vnni},
    {"avx512_bf16", has_avx512_bf16, with_avx512_bf16},
    {"amx", has_amx, with_amx},
};

} // namespace

std::vector<std::string> cpu_isas() {
  __builtin_cpu_init();
  std::vector<std::string> names;
  for (const auto& one : all_isas)
    if (one.is_here())
      names.emplace_back(one.name);
  return names;
}

namespace cpu {

isa_choice choose_isa(std::string_view name, bool bf16_products) {
  __builtin_cpu_init();
  const isa* best = &all_isas[0];
  bool known = name.empty();
  for (const auto& one : all_isas)
    known |= one.name == name;
  for (const auto& one : all_isas) {
    if (known && one.is_here())
      best = &one;
    if (one.name == name)
      break;
  }
  isa_choice choice{best->name, best->kernels()};
  if (!bf16_products) {
    choice.kernels.linear_bf16_dot = nullptr;
    choice.kernels.attention_pairs = nullptr;
  }
  return choice;
}

} // namespace cpu
} // namespace troupe::gpu
