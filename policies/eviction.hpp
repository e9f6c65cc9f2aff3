#pragma once
#include <cstdint>

namespace troupe::policies {

/// What is known of something cached: a chunk of weights in the host pool.
struct cached_item {
  double reload_seconds = 0; ///< what it takes to get it again
  double heat = 0;           ///< uses, the older the less; see `warmed`
  double idle_seconds = 0;   ///< since the last use
};

/// After so long without a use half of an item's heat is gone.
constexpr double heat_half_life_seconds = 6 * 3600;
/// About the time between two calls in a burst: an item that has been idle for less is as likely to
/// be used soon as one that was used just now.
constexpr double burst_pause_seconds = 60;

/// Heat after a use that came `idle_seconds` after the one before: exponentially weighted counting,
/// the CRF of Lee et al., "LRFU", IEEE Trans. Computers 50(12), 2001, section 2.
double warmed(double heat, double idle_seconds);

/// The baseline: whatever was used last is worth most, whatever it costs to get again.
double recency_worth(const cached_item& item);

/// Seconds of loading that keeping the item is expected to save per second: what it costs to get,
/// times the rate of its next use. That rate is its long-run popularity, plus what a burst leaves
/// to be expected: with gaps of every length the next one is about as long as the last one has been
/// so far. Neither term does alone: popularity throws a new burst out at once (1.5 to 2.7 times the
/// reload time of recency in tests/bench/eviction_bench.cpp), recency keeps what is cheap.
double reuse_worth(const cached_item& item);

} // namespace troupe::policies
