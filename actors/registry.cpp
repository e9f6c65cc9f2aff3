#include "actors/registry.hpp"

#include <caf/all.hpp>

namespace troupe::actors {

registry_actor::behavior_type registry(registry_actor::stateful_pointer<registry_state> self,
                                       std::string node, actor_card_ptr self_card) {
  self->state.node = std::move(node);
  self->state.self_card = std::move(self_card);
  self->state.actors.emplace(self->address(), self->state.self_card);
  self->set_down_handler([self](const caf::down_msg& down) {
    self->state.self_card->handled();
    self->state.actors.erase(down.source);
  });
  return {
      [self](atom::enrol, const enrolment& x) {
        self->state.self_card->handled();
        self->state.actors[x.who->address()] = x.card;
        self->monitor(x.who);
      },
      [self](atom::list) {
        self->state.self_card->handled();
        actor_list out;
        for (const auto& [who, card] : self->state.actors)
          out.actors.push_back(card->info(who.id(), self->state.node));
        return out;
      },
  };
}

} // namespace troupe::actors
