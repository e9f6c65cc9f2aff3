#include "policies/preemption.hpp"

namespace troupe::policies {

namespace {
constexpr double newest_part = 0.2;
} // namespace

void copy_speed::learn(uint64_t bytes, duration took) {
  const double ms = std::chrono::duration<double, std::milli>(took).count();
  if (bytes == 0 || ms <= 0)
    return;
  bytes_per_ms_ += newest_part * (static_cast<double>(bytes) / ms - bytes_per_ms_);
}

bool swapping_pays(const pushed_out& what, const step_cost& cost, const copy_speed& copying) {
  // Before anything was measured, `cost` knows ratios only. No device computes a row faster than a
  // host copies what it leaves behind.
  if (!cost.is_measured())
    return true;
  const auto rows = static_cast<double>(what.tokens);
  const double pairs = rows * (static_cast<double>(what.before) + (rows + 1) / 2);
  const double recompute = cost.ms({rows, pairs}) - cost.ms({0, 0});
  return 2 * copying.ms(what.bytes) < recompute;
}

} // namespace troupe::policies
