#pragma once
#include <sched.h>

#include <memory>
#include <string_view>
#include <vector>

namespace troupe::gpu::cpu {

/// "0-3,8,10-11" as numbers, ascending; what makes no sense is left out.
std::vector<unsigned> parse_core_list(std::string_view text);

/// Cores that threads are held to. Copies share the set.
class core_set {
public:
  /// No set: threads run where they are.
  core_set() = default;
  explicit core_set(const std::vector<unsigned>& cores);
  /// Where the calling thread may run.
  static core_set of_this_thread();

  explicit operator bool() const { return mask_ != nullptr; }
  bool has(unsigned core) const;
  unsigned size() const;
  /// Holds the calling thread to these cores; costs nothing when it was the last set to do so.
  /// Where the system refuses, the thread stays where it is: slower, but right.
  void hold_this_thread() const;

private:
  std::shared_ptr<const std::vector<cpu_set_t>> mask_; ///< one mask, as long as its last core needs
};

} // namespace troupe::gpu::cpu
