#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "base/ids.hpp"
#include "engine/engine.hpp"
#include "policies/fair_monitor.hpp"

namespace troupe::actors {

/// The series of one model. All may be used from any thread.
struct model_metrics {
  prometheus::Gauge* running;
  prometheus::Gauge* waiting;
  prometheus::Gauge* kv_usage;
  prometheus::Gauge* swap_bytes;
  prometheus::Gauge* bound_bytes;
  prometheus::Counter* steps;
  prometheus::Counter* rows;
  prometheus::Counter* wrong_guesses;
  prometheus::Counter* right_guesses;
  prometheus::Counter* recomputed;
  prometheus::Counter* swapped;
  prometheus::Counter* prompt_tokens;
  prometheus::Counter* generated_tokens;
  prometheus::Histogram* queue_time;
  prometheus::Histogram* dispatch;
  prometheus::Histogram* first_token;
  prometheus::Histogram* inter_token;
  prometheus::Histogram* end_to_end;
  prometheus::Histogram* cold_start;
  prometheus::Gauge* state_cold;
  prometheus::Gauge* state_loading;
  prometheus::Gauge* state_ready;
  prometheus::Gauge* state_failed;
  /// Adds what an engine has done since it was asked last.
  void add(const engine::engine_counters& work);
};

/// The metrics of the actors, in a registry that the gateway shares and serializes.
class metrics {
public:
  metrics();
  ~metrics();
  prometheus::Registry& registry() { return *registry_; }
  /// Labels come from served models only, so that clients cannot make new series.
  model_metrics& of(const model_id& model);
  void request_ended(const model_id& model, const std::string& result);
  void evicted(const std::string& reason);
  void loaded(uint64_t bytes);
  /// Bytes of a load that a worker took from there.
  void came_from(const std::string& tier, double bytes);
  /// Bytes of weights that this node gave to others.
  void sent_to_peers(double bytes);
  void worker_count(size_t count);
  /// A first token was foretold `predicted` seconds after acceptance and came after `real`.
  void foretold(const std::string& state, double predicted, double real);
  /// Pairs of tenants that wait for a model; those of the last call that are not in it go away.
  void fairness(const model_id& model, const std::vector<policies::pair_drift>& pairs);

private:
  struct families;
  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<families> families_;
  std::mutex mutex_; // held while a series is looked up
  std::unordered_map<std::string, std::unique_ptr<model_metrics>> models_;
  using pair_gauges = std::map<std::pair<std::string, std::string>, prometheus::Gauge*>;
  std::unordered_map<std::string, pair_gauges> drifts_;
};

} // namespace troupe::actors
