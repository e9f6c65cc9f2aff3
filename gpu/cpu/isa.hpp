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

/// The kernels of the named instruction set (see `cpu_isas`), or of the best one up to it that
/// processor and operating system support; an empty name means the best of all. An unknown name
/// gives the portable ones. `bf16_products` false leaves out the dot product of bf16 pairs.
isa_choice choose_isa(std::string_view name, bool bf16_products);

} // namespace troupe::gpu::cpu
