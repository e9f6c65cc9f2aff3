#pragma once
#include <map>
#include <string>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/messages.hpp"

namespace troupe::actors {

struct registry_state {
  static inline const char* name = "registry";
  std::string node;
  actor_card_ptr self_card;
  std::map<caf::actor_addr, actor_card_ptr> actors;
};

/// What the inspector reads: every actor of this node that enrolled and still lives.
registry_actor::behavior_type registry(registry_actor::stateful_pointer<registry_state> self,
                                       std::string node, actor_card_ptr self_card);

} // namespace troupe::actors
