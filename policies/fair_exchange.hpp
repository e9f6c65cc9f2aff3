#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "policies/fair_vtc.hpp"

namespace troupe::policies {

/// What one scheduler tells another about the tenants it serves; see fair_exchange.
struct fair_digest {
  uint64_t sender = 0; ///< an instance: a scheduler that starts anew takes a new id
  uint64_t number = 0; ///< counts the sender's digests to this receiver
  bool whole = false;  ///< levels of all tenants, for one that has just started
  std::array<std::optional<double>, fair_priorities> floor{}; ///< least counter waiting there
  struct entry {
    fair_priority priority = fair_priority::standard;
    uint64_t organisation = 0;
    double service = 0; ///< divided by weight, rendered there since the last digest
    double level = 0;   ///< its counter there now, without what is prepaid
  };
  std::vector<entry> entries{};
};

/// Makes several schedulers, each with its own queue for the same tenants, fair together.
///
/// Each adds what the others served to its own counters. A digest carries the service since the
/// last one that its receiver has acknowledged, which is added exactly once, and the resulting
/// level, which is merged by maximum: adding keeps concurrent service of two schedulers, the
/// maximum carries lifts over and repairs what a lost scheduler told only some. Both only ever
/// raise counters, so neither a killed scheduler nor a partition is worth anything to a tenant:
/// what is not known somewhere is at most what was served since the last exchange. State is bounded
/// by the tenants that were served since the last acknowledgement, per peer.
///
/// Bound. Let f and g always wait at all N schedulers, U be the charge of one scheduler after an
/// admission (fair_cost.hpp), R the most service per second of one scheduler, tau the greatest age
/// of what one knows of another, s = (N - 1) * R * tau what a scheduler may not know. With
/// D = S_f / w_f - S_g / w_g over all schedulers: where D > s / w_f every scheduler sees f above g
/// and admits no more of f, so D grows by no more than what f already runs, N * U / w_f. Hence
///   |D(t2) - D(t1)| <= (N * U + s) * (1 / w_f + 1 / w_g).
/// While split, each side keeps this bound for itself, and the sum over the sides is no more than
/// it; what each knew before or after adds at most as much again. So for k partitions or restarts:
///   (1 + k) * (N * U + s) * (1 / w_f + 1 / w_g) + k * R * tau * max(1 / w_f, 1 / w_g),
/// the last term for what a killed scheduler had not told.
class fair_exchange {
public:
  /// `queue` outlives this and reports to it. `self` is unique among all instances ever.
  fair_exchange(virtual_token_counter& queue, uint64_t self);
  fair_exchange(const fair_exchange&) = delete;

  /// From now on `peer` is told. A peer that starts anew has a new id.
  void add_peer(uint64_t peer);
  void remove_peer(uint64_t peer);
  /// What `peer` has not acknowledged yet. Until it acknowledges, the same service is in every
  /// digest, under the same number.
  fair_digest digest_for(uint64_t peer);
  /// Applies a digest once; repeated ones change nothing. Acknowledge it to the sender either way.
  void apply(const fair_digest& digest);
  void acknowledged(uint64_t peer, uint64_t number);

private:
  using tenant = std::pair<fair_priority, uint64_t>;
  struct peer_state {
    uint64_t number = 1;
    bool greeted = false;           ///< has been sent the levels of all
    std::map<tenant, double> sent;  ///< in the digest `number`, once that was made
    std::map<tenant, double> later; ///< since then
    bool made = false;
    uint64_t applied = 0;
    std::array<std::optional<double>, fair_priorities> floor{};
  };
  void raise_entries();

  virtual_token_counter& queue_;
  uint64_t self_;
  std::map<uint64_t, peer_state> peers_;
};

/// The bound above. `unknown` = R * tau of one scheduler.
double exchange_drift_bound(double charge_max, size_t schedulers, double unknown, double weight_f,
                            double weight_g, size_t disturbances);

} // namespace troupe::policies
