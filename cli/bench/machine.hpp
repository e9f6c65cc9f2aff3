#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace troupe::cli::bench {

/// What the figures were taken on.
struct machine {
  std::string cpu; ///< as the processor names itself
  unsigned cores = 0;
  uint64_t memory_bytes = 0;
  uint64_t last_cache_bytes = 0; ///< 0 = not said
  std::string huge_pages;        ///< "always", "madvise" or "never"; empty = not said
  std::string system;            ///< "Linux 6.1.0 x86_64"
};
machine this_machine();

/// Bytes that can be taken now without swapping or being killed: what the kernel holds available,
/// or less where a control group says so.
uint64_t free_memory_bytes();

/// Tells how much of the machine others used while something was measured: the figures of a run
/// that had to share its cores say little.
class neighbours {
public:
  neighbours();
  /// Cores that were busy with anything but this process since this was made (stolen time
  /// included), as a share of all cores; 0 when too short a time has passed to tell.
  double share() const;

private:
  std::chrono::steady_clock::time_point begun_;
  double busy_seconds_;
  double own_seconds_;
};

} // namespace troupe::cli::bench
