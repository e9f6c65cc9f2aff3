#pragma once
#include <cstddef>
#include <cstdint>

namespace troupe::policies {

/// How long sequences of one model keep their places, learned: recent ones count most.
class service_time {
public:
  void learn(double seconds);
  double seconds() const { return seconds_; } ///< 0 before any was seen

private:
  double seconds_ = 0;
  bool is_measured_ = false;
};

/// How long a sequence waits for a place, in seconds, if `ahead` others wait before it, `places`
/// are free and `running` are taken. Places come free at the rate at which those that run end; what
/// has run for long has as much before it as what has just begun.
double place_wait(size_t ahead, uint32_t places, size_t running, double service_seconds);

} // namespace troupe::policies
