#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace troupe::policies {

/// Where a load's bytes may come from.
enum class load_tier : uint8_t { remote, disk, pool };
inline constexpr size_t load_tier_count = 3;

/// Bytes by tier.
using tier_bytes = std::array<double, load_tier_count>;

/// One load: what it needs of each tier, and what that tier has to deliver to others before.
struct load_demand {
  tier_bytes wanted{};
  tier_bytes queued{};
};

/// The rate of one tier, learned from loads. Changes of the machine (a disk that is throttled, a
/// link that recovers) are told from noise by their persistence.
class rate_estimate {
public:
  explicit rate_estimate(double bytes_per_second);
  double bytes_per_second() const;
  void observe(double bytes_per_second);

private:
  double log_rate_;
  double spread_ = 0.1; ///< mean size of the relative error
  int surprises_ = 0;   ///< errors in a row that the spread does not explain, signed
};

/// Predicts how long loads take on one node. The tiers work at the same time, so the slowest one
/// decides: T = overhead + max over tiers of (queued + wanted) / rate.
class load_cost {
public:
  /// `probed`: bytes per second of each tier, as measured when the node started.
  explicit load_cost(const tier_bytes& probed, double overhead_seconds = 0.002);

  /// Until the last byte is there.
  double seconds(const load_demand& load) const;
  /// Until the first token: a load during which layers run as they arrive hides all of the prefill
  /// but its last layer (of `layers`); otherwise all of it comes after the load.
  double first_token_seconds(const load_demand& load, double prefill_seconds, uint32_t layers,
                             bool runs_while_loading) const;
  /// What a load really took; corrects the tier that decided.
  void observe(const load_demand& load, double seconds);
  double bytes_per_second(load_tier tier) const;

private:
  /// The tier that takes longest, and its time.
  size_t slowest(const load_demand& load) const;
  double time_of(const load_demand& load, size_t tier) const;

  std::array<rate_estimate, load_tier_count> rates_;
  double overhead_seconds_;
};

/// Whether an engine should start before its last weights have come. Until they have, it holds its
/// worker up, and with it every other model there: so only when that can take no more than
/// `seconds_max` at the rate at which they arrive. An unknown rate (0) is too slow.
bool may_start_early(double bytes_left, double bytes_per_second, double seconds_max = 0.5);

} // namespace troupe::policies
