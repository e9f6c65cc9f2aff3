#pragma once
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "actors/cluster_types.hpp"

namespace troupe::actors {

/// What the loads of one node took, and so what the next ones will: policies::load_cost with the
/// loads that are under way. Workers are told apart by any number. All functions may be called
/// from any thread.
///
///   announce --[fetched]--> begin --came, ready in any order--> learned
///      `---------- drop -------'
class load_book {
public:
  /// `worker` will load this model, after those that it was given before.
  void announce(uint64_t worker, const model_id& model, instant now);
  /// Its files came over the network.
  void fetched(uint64_t worker, const model_id& model, std::string source, double bytes,
               double seconds);
  /// Its bytes begin to come.
  void begin(uint64_t worker, const model_id& model, instant now);
  /// All bytes are there. The account, if the engine is ready, too.
  std::optional<load_account> came(uint64_t worker, const model_id& model,
                                   const policies::tier_bytes& whence, instant now);
  /// The engine can run; `bind_seconds` of its time were its own work. The account, if all bytes
  /// are there.
  std::optional<load_account> ready(uint64_t worker, const model_id& model, double bind_seconds,
                                    instant now);
  /// It failed, or nothing can be learned from it.
  void drop(uint64_t worker, const model_id& model);

  /// Bytes that will still come into the host pool for loads that were announced before this one.
  double coming_bytes(uint64_t worker, const model_id& model, instant now) const;
  /// What a load of these bytes will take on `worker`. If it was announced, counted from then, and
  /// remembered for those behind it.
  load_account forecast(uint64_t worker, load_account wanted, instant now);
  /// See policies::load_cost.
  void probe(policies::load_tier tier, double bytes_per_second);
  double bytes_per_second(policies::load_tier tier) const;

private:
  struct pending {
    uint64_t worker = 0;
    model_id model;
    instant announced{};
    instant begun{}, came{}, ready{}; ///< unset = not yet
    load_account forecast{};          ///< all 0 until it was made
    load_account real{};
    double left(instant now) const;
  };
  pending* find(uint64_t worker, const model_id& model);
  std::optional<load_account> settle(pending& x);

  mutable std::mutex mutex_;
  policies::load_cost cost_;
  std::vector<pending> pending_; ///< in the order in which they were announced
};

/// What a load is to the cost model.
policies::load_demand demand_of(const load_account& x);

/// The link that bytes from a model's origin come over.
std::string link_of(const std::string& origin);

} // namespace troupe::actors
