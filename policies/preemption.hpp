#pragma once
#include <cstdint>

#include "base/instant.hpp"
#include "policies/step_cost.hpp"

namespace troupe::policies {

/// What a sequence has that is pushed out.
struct pushed_out {
  uint64_t tokens = 0; ///< computed ones that nobody else holds
  uint64_t before = 0; ///< computed ones in front of those
  uint64_t bytes = 0;  ///< of their keys and values
};

/// How fast keys and values are copied between a device and the host, from how fast they were.
class copy_speed {
public:
  void learn(uint64_t bytes, duration took);
  double ms(uint64_t bytes) const { return static_cast<double>(bytes) / bytes_per_ms_; }

private:
  double bytes_per_ms_ = 2e6; ///< 2 GB/s until measured: less than any host's memory
};

/// True if to copy the keys and values out and in again takes less time than to compute them anew
/// (both ways: vLLM, SOSP'23, section 4.5). Rows that are recomputed fill steps that others wait
/// for, so they count in full.
bool swapping_pays(const pushed_out& what, const step_cost& cost, const copy_speed& copying);

} // namespace troupe::policies
