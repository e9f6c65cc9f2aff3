#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/messages.hpp"
#include "policies/restart_budget.hpp"

namespace troupe::actors {

/// The root of a node: watches its children, and starts them again when they crash.
using supervisor_actor = caf::typed_actor<
    // INTERNAL: starts a child again.
    caf::reacts_to<atom::restart, uint64_t>>;

struct child_spec {
  std::string name;
  caf::strong_actor_ptr first; ///< already running
  /// Makes the next one, enrols it, and returns it; null if it cannot be, which is like a vital
  /// child's crash. Empty for vital children.
  std::function<caf::strong_actor_ptr()> start;
  /// Without it nothing works: when it crashes, the node ends instead of starting it again.
  bool vital = false;
  actor_card_ptr card;
};

struct supervisor_setup {
  std::vector<child_spec> children;
  policies::restart_budget_config budget;
  actor_card_ptr self_card;
  std::shared_ptr<const std::atomic<bool>> stopping;
  /// Called when a vital child has crashed, or one whose budget is spent.
  std::function<void(const std::string& why)> give_up;
};

struct supervisor_state {
  static inline const char* name = "node";
  supervisor_setup setup;
  std::vector<policies::restart_budget> budgets;
  std::map<caf::actor_addr, uint64_t> running; ///< -> index of the child
};

supervisor_actor::behavior_type
supervisor(supervisor_actor::stateful_pointer<supervisor_state> self, supervisor_setup setup);

} // namespace troupe::actors
