#pragma once
#include <map>
#include <set>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "actors/messages.hpp"

namespace troupe::actors {

struct gateway_state {
  static inline const char* name = "gateway";
  actor_card_ptr self_card;
  std::map<caf::actor_addr, instant> running;
  /// Timers of the requests themselves would keep each of them alive until its deadline.
  std::set<std::pair<instant, caf::actor_addr>> deadlines;
  instant timer_at{};
  std::vector<caf::typed_response_promise<bool>> drains;
};

/// The actor side of the HTTP edge: knows every running request, and when it expires.
gateway_actor::behavior_type gateway(gateway_actor::stateful_pointer<gateway_state> self,
                                     actor_card_ptr self_card);

} // namespace troupe::actors
