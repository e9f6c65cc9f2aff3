#include "policies/place_wait.hpp"

#include <algorithm>

namespace troupe::policies {

namespace {

constexpr double gain = 0.1;

} // namespace

void service_time::learn(double seconds) {
  if (!(seconds >= 0))
    return;
  seconds_ += (is_measured_ ? gain : 1) * (seconds - seconds_);
  is_measured_ = true;
}

double place_wait(size_t ahead, uint32_t places, size_t running, double service_seconds) {
  if (ahead < places)
    return 0;
  const auto to_end = static_cast<double>(ahead - places + 1);
  return to_end * service_seconds / static_cast<double>(std::max<size_t>(running, 1));
}

} // namespace troupe::policies
