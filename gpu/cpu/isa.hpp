#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "gpu/cpu/kernels.hpp"

namespace troupe::gpu::cpu {

struct isa_choice {
  std::string name;
  kernel_table kernels;
};

/// The kernels of the named instruction set ("portable", "avx2", "avx512", "avx512_bf16"), or of
/// the best one that processor and operating system support where `name` is empty or out of their
/// reach. An unknown name gives the portable ones. `bf16_products` false leaves out the dot
/// product of bf16 pairs.
isa_choice choose_isa(std::string_view name, bool bf16_products);

} // namespace troupe::gpu::cpu
