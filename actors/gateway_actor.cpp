#include "actors/gateway_actor.hpp"

#include <caf/all.hpp>

namespace troupe::actors {

namespace {

using pointer = gateway_actor::stateful_pointer<gateway_state>;

void show(pointer self) {
  self->state.self_card->show("running", std::to_string(self->state.running.size()) + " requests");
}

void set_timer(pointer self) {
  auto& state = self->state;
  if (state.deadlines.empty())
    return;
  const auto now = self->clock().now();
  const auto next = state.deadlines.begin()->first;
  if (state.timer_at > now && state.timer_at <= next)
    return;
  state.timer_at = next;
  self->delayed_send(self, std::max<duration>(next - now, duration{0}), atom::sweep_v);
}

void ended(pointer self, const caf::actor_addr& who) {
  auto& state = self->state;
  const auto at = state.running.find(who);
  if (at == state.running.end())
    return;
  state.deadlines.erase({at->second, who});
  state.running.erase(at);
  show(self);
  if (!state.running.empty())
    return;
  for (auto& promise : std::exchange(state.drains, {}))
    promise.deliver(true);
}

} // namespace

gateway_actor::behavior_type gateway(pointer self, actor_card_ptr self_card) {
  self->state.self_card = std::move(self_card);
  self->set_down_handler([self](const caf::down_msg& down) {
    self->state.self_card->handled();
    ended(self, down.source);
  });
  return {
      [self](atom::admit, const admission& x) {
        auto& state = self->state;
        state.self_card->handled();
        const auto address = x.invocation->address();
        state.running.emplace(address, x.deadline);
        state.deadlines.emplace(x.deadline, address);
        self->monitor(address);
        set_timer(self);
        show(self);
      },
      [self](atom::sweep) {
        auto& state = self->state;
        state.self_card->handled();
        state.timer_at = {};
        const auto now = self->clock().now();
        while (!state.deadlines.empty() && state.deadlines.begin()->first <= now) {
          const auto who = caf::actor_cast<invocation_actor>(state.deadlines.begin()->second);
          state.deadlines.erase(state.deadlines.begin());
          if (who)
            self->send(who, atom::expire_v);
        }
        set_timer(self);
      },
      [self](atom::drain) -> caf::result<bool> {
        auto& state = self->state;
        state.self_card->handled();
        if (state.running.empty())
          return true;
        auto promise = self->make_response_promise<bool>();
        state.drains.push_back(promise);
        return promise;
      },
  };
}

} // namespace troupe::actors
