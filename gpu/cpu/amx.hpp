#pragma once
#include <functional>

#include "gpu/cpu/kernels.hpp"

namespace troupe::gpu::cpu {

/// Whether AMX (bf16 and int8) is here, the operating system lets this process use it, and
/// `kernels`, run once on small products in a child process, give what `proven` gives. The child
/// takes the blame: instructions that a hypervisor promises but does not carry out kill it alone.
/// Asks once and remembers.
bool amx_works(const kernel_table& kernels, const kernel_table& proven);

/// The check itself: true when the kernels for panels agree on small products with odd sizes.
/// Allocates; does not fork.
bool panels_agree(const kernel_table& kernels, const kernel_table& proven);

/// Runs `body`, which must not allocate or lock, in a child process; true if it returned true there
/// within ten seconds. The parent may have threads.
bool true_in_child(const std::function<bool()>& body);

} // namespace troupe::gpu::cpu
