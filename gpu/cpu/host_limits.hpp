#pragma once
#include <cstdint>

namespace troupe::gpu::cpu {

/// Bytes that this process may use: physical memory, or less where a control group says so.
uint64_t host_memory_bytes();

/// Bytes that this process could still take without swapping, by the kernel's estimate: of the
/// machine, or less where a control group says so. 0 = the kernel does not tell.
uint64_t host_available_bytes();

/// Cores that this process may keep busy: its affinity mask, or fewer where a control group's
/// quota says so; at least 1.
unsigned host_cores();

} // namespace troupe::gpu::cpu
