#include "actors/supervisor.hpp"

#include <caf/all.hpp>

#include "actors/log.hpp"

namespace troupe::actors {

namespace {

using pointer = supervisor_actor::stateful_pointer<supervisor_state>;

void watch(pointer self, uint64_t index, const caf::strong_actor_ptr& child) {
  auto& state = self->state;
  state.running.emplace(child->address(), index);
  self->monitor(child);
}

void on_down(pointer self, const caf::down_msg& down) {
  auto& state = self->state;
  const auto at = state.running.find(down.source);
  if (at == state.running.end())
    return;
  const auto index = at->second;
  state.running.erase(at);
  if (*state.setup.stopping)
    return;
  const auto& child = state.setup.children[index];
  const auto why = self->system().render(down.reason);
  if (child.vital)
    return state.setup.give_up(child.name + " crashed: " + why);
  const auto delay = state.budgets[index].on_crash(self->clock().now());
  if (!delay)
    return state.setup.give_up(child.name + " crashed too often: " + why);
  log_error(child.name + " crashed (" + why + "); starting it again");
  if (child.card)
    child.card->restarted();
  self->delayed_send(self, *delay, atom::restart_v, index);
}

} // namespace

supervisor_actor::behavior_type supervisor(pointer self, supervisor_setup setup) {
  auto& state = self->state;
  state.setup = std::move(setup);
  state.budgets.assign(state.setup.children.size(), policies::restart_budget{state.setup.budget});
  self->set_down_handler([self](const caf::down_msg& down) {
    self->state.setup.self_card->handled();
    on_down(self, down);
  });
  for (uint64_t i = 0; i < state.setup.children.size(); ++i)
    watch(self, i, std::exchange(state.setup.children[i].first, nullptr));
  return {
      [self](atom::restart, uint64_t index) {
        self->state.setup.self_card->handled();
        if (*self->state.setup.stopping)
          return;
        const auto& child = self->state.setup.children[index];
        if (const auto next = child.start())
          watch(self, index, next);
        else
          self->state.setup.give_up(child.name + " cannot be started again");
      },
  };
}

} // namespace troupe::actors
