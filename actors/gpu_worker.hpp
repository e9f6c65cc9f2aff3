#pragma once
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "actors/directory.hpp"
#include "actors/load_book.hpp"
#include "actors/messages.hpp"

namespace troupe::actors {

struct gpu_worker_setup {
  std::string node;
  std::string device;           ///< for people: "cpu"
  uint64_t limit_bytes = 0;     ///< of weights and the workspace
  uint64_t kv_memory_bytes = 0; ///< what its models borrow from
  gpu::memory_home home{};      ///< of the device
  std::string data_address{};   ///< where other nodes get weights from this one; empty = nowhere
  /// Binds an engine to an opened model; runs on the worker's own thread.
  std::function<caf::expected<std::unique_ptr<engine::engine>>(const opened_model&)> make_engine;
  checkpoint_loader_actor loader;
  /// Where the stager is; null = nobody foresees loads or prefetches.
  std::shared_ptr<const directory> where;
  /// The loader's.
  std::shared_ptr<load_book> book = std::make_shared<load_book>();
  registry_actor registry;
  actor_card_ptr self_card;
};

/// A model on this worker.
struct hosted_model {
  struct runner {
    caf::strong_actor_ptr sink;
    uint32_t epoch = 0;
    instant first_step{};
    bool ran_part = false; ///< of a step, before the rest of the weights was there
    bool has_tokens = false;
  };
  std::unique_ptr<engine::engine> engine;
  std::map<sequence_id, runner> runners;
  bool leaving = false;
  uint32_t told_room = 0, told_running = 0;
  uint64_t told_kv_bytes = 0;
  void note_told(const residence_report& now) {
    told_room = now.room;
    told_running = now.running;
    told_kv_bytes = now.kv_bytes;
  }
  double making_seconds = 0; ///< of the engine
  bool is_accounted = false; ///< the load's book knows that it is ready
  bool is_held = false;      ///< its step waits for weights
  // Of a model that takes requests while its weights are on their way:
  bool is_coming = false;
  instant began{};
  uint64_t weight_bytes = 0;
  engine::engine_counters told_work = {};
};

/// A model that is coming to this worker.
struct loading_model {
  instant began{};
  load_order order;
  // Once its files are open:
  instant bound_since{};
  double making_seconds = 0;
  uint64_t weight_bytes = 0;
  std::unique_ptr<engine::engine> engine;
};

struct gpu_worker_state {
  static inline const char* name = "gpu-worker";
  gpu_worker_setup setup;
  cluster_actor scheduler; ///< null while no cluster is joined
  std::map<model_id, hosted_model> models;
  std::map<model_id, loading_model> loading;
  std::map<caf::actor_addr, std::set<std::pair<model_id, sequence_id>>> sinks;
  /// Models that turned out to be damaged when they ran already: their next load comes to its end
  /// before they run.
  std::set<model_id> doubted;
  model_id last_stepped;
  bool stepping = false, leaving = false;
  worker_report pending; ///< told to the scheduler after the current message
  std::vector<caf::typed_response_promise<bool>> drains;
};

/// Owns one device. To be spawned detached; blocks while it computes, and only then.
gpu_worker_actor::behavior_type
gpu_worker(gpu_worker_actor::stateful_pointer<gpu_worker_state> self, gpu_worker_setup setup);

} // namespace troupe::actors
