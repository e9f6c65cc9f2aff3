#pragma once
#include <algorithm>
#include <cstdint>
#include <random>

#include "base/instant.hpp"

namespace troupe::policies {

/// Doubling pauses between attempts at the same thing. Without jitter: the callers of this project
/// are few, and tests want to know the next attempt's time.
class backoff {
public:
  constexpr backoff(duration first, duration max) : first_{first}, max_{max}, next_{first} {}
  /// The pause before the next attempt.
  duration next() {
    const auto pause = next_;
    next_ = std::min(next_ * 2, max_);
    return pause;
  }
  void reset() { next_ = first_; }

private:
  duration first_, max_, next_;
};

/// The pause after `failures` failures in a row (1, 2, ...): doubling from `first` up to `max`, and
/// of that a random part between a half and the whole, so that many clients that lost one server
/// together do not come back together.
inline duration jittered_pause(duration first, duration max, unsigned failures,
                               std::mt19937_64& random) {
  auto whole = std::min(first, max);
  for (unsigned i = 1; i < failures && whole < max; ++i)
    whole = std::min(whole * 2, max);
  std::uniform_int_distribution<duration::rep> part{whole.count() / 2, whole.count()};
  return duration{part(random)};
}

} // namespace troupe::policies
