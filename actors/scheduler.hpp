#pragma once
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "actors/foresight.hpp"
#include "actors/messages.hpp"
#include "actors/metrics.hpp"
#include "actors/model_card.hpp"
#include "actors/request_log.hpp"
#include "policies/dispatcher.hpp"

namespace troupe::actors {

struct scheduler_setup {
  policies::dispatcher_config policy;
  std::vector<std::pair<model_card_ptr, policies::served_model>> models;
  std::shared_ptr<metrics> meters;
  std::shared_ptr<request_log> log;
  actor_card_ptr self_card;
  /// Where workers get weights from the head; empty = nowhere.
  std::string data_address{};
  /// How many workers are joined; read by any thread.
  std::shared_ptr<std::atomic<size_t>> workers;
};

struct scheduler_state {
  static inline const char* name = "scheduler";
  /// A sequence's owner, as long as it waits or runs.
  struct owner {
    caf::strong_actor_ptr invocation;
    model_id model;
    uint32_t prompt_tokens = 0;
    instant accepted{}, dispatched{}; ///< unset = it waits
    bool is_foretold = false;
  };
  struct worker {
    worker_actor handle;
    worker_hello hello;
    std::map<model_id, residence_report> residents;
    /// A last report may come behind the news that the model has gone.
    void update(const residence_report& now) {
      if (const auto at = residents.find(now.model); at != residents.end())
        at->second = now;
    }
  };
  struct model {
    model_card_ptr card;
    model_metrics* meters = nullptr;
    load_progress progress;
    double load_seconds = 0;
    instant load_started{};
    std::vector<caf::typed_response_promise<model_status>> loads{}, unloads{};
  };
  scheduler_setup setup;
  policies::dispatcher policy;
  foresight ahead;
  std::unordered_map<sequence_id, owner> owners;
  std::map<policies::worker_id, worker> workers;
  std::map<model_id, model> models;
  policies::worker_id last_worker = 0;
  uint64_t timer = 0;
  instant timer_at{};
};

scheduler_actor::behavior_type scheduler(scheduler_actor::stateful_pointer<scheduler_state> self,
                                         scheduler_setup setup);

} // namespace troupe::actors
