#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace troupe::policies {

/// Where a load's bytes may come from: a source on the network, the disk past the page cache, the
/// host pool, the disk through the page cache (files that are mapped), the page cache itself,
/// another device of the machine that has the weights as they are wanted.
enum class load_tier : uint8_t { remote, disk, pool, paged, cached, device };
inline constexpr size_t load_tier_count = 6;

/// Bytes by tier.
using tier_bytes = std::array<double, load_tier_count>;

/// Bytes per second of tiers that nobody has measured yet: slow ones of their kind, as a load that
/// takes less time than was said disappoints nobody.
inline constexpr tier_bytes unmeasured_rates{50e6, 1e9, 5e9, 0.8e9, 4e9, 4e9};
inline constexpr double unmeasured_bind_rate = 4e9;

/// One load: what it needs of each tier, and what stands before it.
struct load_demand {
  tier_bytes wanted{};
  tier_bytes queued{};      ///< what a tier has to deliver to others before
  double queue_seconds = 0; ///< until the loads before it are done
  double bind_bytes = 0;    ///< weights that an engine copies, converts or looks at
  std::string source{};     ///< which link the remote bytes come over
  std::string binding{};    ///< bind rates are learned for each of these by itself: a model
};

/// How long a load's parts take or took, in seconds. Parts may overlap.
struct load_phases {
  double queued = 0;
  double fetch = 0; ///< from the network
  double read = 0;  ///< from the tiers of the machine
  double bytes = 0; ///< fetch and read: until the last byte is in memory
  double bind = 0;  ///< the engine's own work, waits for bytes not counted
  double total = 0; ///< queued, bytes and bind: until the engine can run
};

/// A rate, learned from loads. Changes of the machine (a disk that is throttled, a link that
/// recovers) are told from noise and from odd loads by their persistence.
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

/// How much of the shorter of two pieces of work is hidden by the longer one, learned: 0 = one
/// comes after the other, 1 = they begin together.
class overlap_estimate {
public:
  double joined(double a, double b) const;
  void observe(double a, double b, double joined);
  bool is_measured() const { return is_measured_; }

private:
  double share_ = 0;
  bool is_measured_ = false;
};

/// Predicts how long loads take on one node: T = queue + (fetch with read) with bind, each pair
/// overlapped as far as it was seen to be. The tiers of the machine work at the same time, so the
/// slowest one decides: read = overhead + max over tiers of (queued + wanted) / rate.
class load_cost {
public:
  /// `probed`: bytes per second of each tier; 0 = not measured.
  explicit load_cost(const tier_bytes& probed = {}, double overhead_seconds = 0.002);

  load_phases predict(const load_demand& load) const;
  /// Until the engine can run.
  double seconds(const load_demand& load) const { return predict(load).total; }
  /// What a load really took; corrects what decided. Phases of 0 were not measured.
  void observe(const load_demand& load, const load_phases& took);
  /// Measured apart from loads: counts until a load has shown the tier's rate.
  void probe(load_tier tier, double bytes_per_second);
  double bytes_per_second(load_tier tier) const;

private:
  struct tier_state {
    rate_estimate rate;
    bool is_measured = false; ///< by a load
    void observe(double bytes_per_second);
  };
  /// The tier of this machine that takes longest, and its time.
  size_t slowest(const load_demand& load) const;
  double time_of(const load_demand& load, size_t tier) const;
  double fetch_rate(const std::string& source) const;
  double bind_rate(const std::string& binding) const;
  size_t bringing_tier(const load_demand& load, const load_phases& took) const;
  void learn_read(const load_demand& load, double seconds);

  std::array<tier_state, load_tier_count> tiers_;
  std::map<std::string, rate_estimate> sources_, bindings_; ///< of each the first thousand
  tier_state any_binding_{rate_estimate{unmeasured_bind_rate}};
  /// Weights that a disk delivers are bound while the next ones come; those of the pool are all
  /// there before much is bound. So by the tier that takes longest, and for what none has shown
  /// yet, of all loads.
  std::array<overlap_estimate, load_tier_count> binding_;
  overlap_estimate any_joined_binding_, fetching_;
  double overhead_seconds_;
};

/// How long before its last weights an engine may start.
inline constexpr double early_seconds_max = 0.5;

/// Whether an engine should start before its last weights have come. Until they have, it holds its
/// worker up, and with it every other model there: so only when that can take no more than
/// `seconds_max` at the rate at which they arrive. An unknown rate (0) is too slow.
bool may_start_early(double bytes_left, double bytes_per_second,
                     double seconds_max = early_seconds_max);

/// How much of a prompt's computation is left when its model's last weights have come: layers run
/// as theirs arrive, from `early_seconds` before the end on, as far as binding leaves time for it.
/// The last of `layers` always is.
double prefill_left(const load_phases& load, double prefill_seconds, uint32_t layers,
                    double early_seconds = early_seconds_max);

} // namespace troupe::policies
