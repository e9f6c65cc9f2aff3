#include "actors/roster.hpp"

#include <caf/all.hpp>

#include "actors/log.hpp"
#include "actors/watch_list.hpp"

namespace troupe::actors {

namespace {

using pointer = scheduler_actor::stateful_pointer<scheduler_state>;

void count_workers(pointer self) {
  auto& state = self->state;
  *state.setup.workers = state.workers.size();
  state.setup.meters->worker_count(state.workers.size());
}

/// A worker of another process comes and goes by itself: the log of the head says so.
bool is_remote(pointer self, const worker_actor& worker) { return worker.node() != self->node(); }

std::string name_of(const worker_hello& hello) { return hello.node + " (" + hello.device + ")"; }

void strike_off(pointer self, policies::worker_id id) {
  auto& state = self->state;
  const auto at = state.workers.find(id);
  if (is_remote(self, at->second.handle))
    log_warning("lost worker " + name_of(at->second.hello));
  state.workers.erase(at);
  state.policy.worker_lost(id, self->clock().now());
  count_workers(self);
}

} // namespace

policies::worker_id worker_of(pointer self, const caf::strong_actor_ptr& sender) {
  for (const auto& [id, worker] : self->state.workers)
    if (sender && worker.handle.address() == sender->address())
      return id;
  return 0;
}

void sign_on(pointer self, const worker_hello& hello) {
  auto& state = self->state;
  const auto id = ++state.last_worker;
  auto handle = caf::actor_cast<worker_actor>(self->current_sender());
  const auto now = self->clock().now();
  self->monitor(handle);
  if (is_remote(self, handle))
    log_info("worker " + name_of(hello) + " joined, with " +
             std::to_string(hello.residents.size()) + " models loaded");
  state.workers[id] = {handle, hello, {}};
  state.policy.worker_joined(id, hello.node, hello.limit_bytes);
  for (const auto& x : hello.residents) {
    if (!state.policy.knows(x.model)) {
      self->send(handle, atom::unload_v, model_ref{x.model});
      continue;
    }
    state.policy.worker_holds(id, x.model, x.takes, x.room, now);
    state.workers[id].residents[x.model] = x;
    state.models.at(x.model).card->context_length = x.context_length;
  }
  count_workers(self);
}

bool strike_off(pointer self, const caf::actor_control_block* handle) {
  for (const auto& [id, worker] : self->state.workers)
    if (caf::actor_cast<caf::actor_control_block*>(worker.handle) == handle) {
      strike_off(self, id);
      return true;
    }
  return false;
}

void strike_off_before(pointer self, const worker_hello& hello) {
  auto& state = self->state;
  const auto& sender = self->current_sender();
  std::vector<policies::worker_id> before;
  for (const auto& [id, x] : state.workers)
    if (x.handle.address() == sender->address() ||
        (x.handle.node() == sender->node() && x.hello.node == hello.node &&
         x.hello.device == hello.device))
      before.push_back(id);
  for (const auto id : before) {
    const auto handed = state.policy.handed_to(id);
    strike_off(self, id);
    for (const auto& x : handed)
      if (const auto owner = state.owners.find(x.id); owner != state.owners.end())
        self->send(
            caf::actor_cast<invocation_actor>(owner->second.invocation), atom::lost_v,
            sequence_loss{{x.model, x.id, x.epoch}, loss_kind::retry, "the worker was lost"});
  }
}

} // namespace troupe::actors
