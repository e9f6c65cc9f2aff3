#pragma once
#include <chrono>

namespace troupe {
/// A point of monotonic time. Policies are handed it; only actors read a clock.
using instant = std::chrono::steady_clock::time_point;
using duration = std::chrono::steady_clock::duration;
} // namespace troupe
