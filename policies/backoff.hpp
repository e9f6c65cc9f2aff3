#pragma once
#include <algorithm>
#include <cstdint>

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

} // namespace troupe::policies
