#include "actors/scheduler.hpp"

#include <set>

#include <caf/all.hpp>

#include "actors/errors.hpp"
#include "actors/failures.hpp"
#include "actors/foretelling.hpp"
#include "actors/load_groups.hpp"
#include "actors/load_news.hpp"
#include "actors/log.hpp"
#include "actors/model_view.hpp"
#include "actors/roster.hpp"

namespace troupe::actors {

namespace {

using pointer = scheduler_actor::stateful_pointer<scheduler_state>;
using namespace policies;

invocation_actor invocation_of(const caf::strong_actor_ptr& owner) {
  return caf::actor_cast<invocation_actor>(owner);
}

model_status status_of(pointer self, const model_id& id) {
  auto& state = self->state;
  const auto& model = state.models.at(id);
  const auto view = state.policy.view(id);
  const auto at = state.workers.find(view.worker);
  const auto device = at == state.workers.end()
                          ? std::string{}
                          : at->second.hello.device + "@" + at->second.hello.node;
  auto out = make_status(*model.card, view, device, self->clock().now());
  for (const auto& [number, worker] : state.workers)
    if (const auto held = worker.residents.find(id); held != worker.residents.end())
      out.kv_bytes += held->second.kv_bytes;
  out.resident_bytes += out.kv_bytes;
  out.loaded_bytes = out.state == "loading" ? model.progress.done_bytes : 0;
  out.load_seconds = model.load_seconds;
  return out;
}

status_list statuses(pointer self) {
  status_list out;
  for (const auto& [id, model] : self->state.models)
    out.models.push_back(status_of(self, id));
  for (const auto& [id, worker] : self->state.workers)
    out.devices.push_back(make_status(worker.hello, worker.residents));
  return out;
}

/// The gauges of one model follow its state.
void publish(pointer self, const model_id& id) {
  const auto view = self->state.policy.view(id);
  const auto state = state_name(view);
  auto& meters = *self->state.models.at(id).meters;
  meters.running->Set(static_cast<double>(view.running));
  meters.waiting->Set(static_cast<double>(view.queued));
  meters.state_cold->Set(state == "cold");
  meters.state_loading->Set(state == "loading");
  meters.state_ready->Set(state == "ready");
  meters.state_failed->Set(state == "failed");
  self->state.setup.meters->fairness(id, self->state.policy.drifts(id));
}

caf::error to_error(const refusal& why) {
  switch (why.reason) {
  case refusal_reason::load_failed:
    return caf::make_error(errc::load_failed, why.message);
  case refusal_reason::files_broken:
    return caf::make_error(errc::files_broken, why.message);
  default:
    return caf::make_error(errc::no_capacity, why.message);
  }
}

void fail_loads(pointer self, const model_id& id, const caf::error& why) {
  for (auto& promise : std::exchange(self->state.models.at(id).loads, {}))
    promise.deliver(why);
}

void carry_out(pointer self, dispatch_intent& x) {
  auto& state = self->state;
  const auto owner = state.owners.find(x.sequence.id);
  const auto worker = state.workers.find(x.worker);
  if (owner == state.owners.end() || worker == state.workers.end())
    return;
  // Until its weights are there, how long it takes says nothing about the model.
  if (!state.policy.coming(x.model))
    owner->second.dispatched = self->clock().now();
  const auto& hello = worker->second.hello;
  self->send(invocation_of(owner->second.invocation), atom::dispatch_v,
             dispatch_order{x.sequence.id, x.sequence.epoch,
                            caf::actor_cast<caf::strong_actor_ptr>(worker->second.handle),
                            hello.device + "@" + hello.node, x.urgent});
}

/// Loads are carried out together: those of one model share what they get.
void start_load(pointer self, const load_intent& x, const std::vector<intent>& all) {
  auto& state = self->state;
  auto& model = state.models.at(x.model);
  const auto& card = *model.card;
  model.load_started = self->clock().now();
  state.ahead.load_began(x.model, model.load_started);
  model.progress = {x.model, "loading", 0, card.weight_bytes()};
  auto order = order_of(card);
  add_peers(self, x, all, order);
  self->send(state.workers.at(x.worker).handle, atom::load_v, std::move(order));
  tell_waiting(self, x.model);
}

void carry_out(pointer self, unload_intent& x) {
  auto& state = self->state;
  self->send(state.workers.at(x.worker).handle, atom::unload_v, model_ref{x.model});
  state.setup.meters->evicted(x.reason == unload_reason::keep_alive   ? "keep_alive"
                              : x.reason == unload_reason::make_room  ? "make_room"
                              : x.reason == unload_reason::tenant_cap ? "tenant_cap"
                                                                      : "asked");
}

void carry_out(pointer self, refuse_intent& x) {
  const auto owner = self->state.owners.find(x.id);
  if (owner == self->state.owners.end())
    return;
  self->send(invocation_of(owner->second.invocation), atom::refuse_v,
             refusal_notice{x.id, x.epoch, to_failure(x.why)});
  self->state.owners.erase(owner);
}

void carry_out(pointer self, watched_intent& x) {
  const auto owner = self->state.owners.find(x.id);
  if (owner != self->state.owners.end())
    self->send(invocation_of(owner->second.invocation), atom::refuse_v,
               refusal_notice{x.id, x.epoch, to_failure(x.why), false});
}

void carry_out(pointer self, prefetch_intent& x) {
  auto& state = self->state;
  self->send(state.workers.at(x.worker).handle, atom::prefetch_v,
             order_of(*state.models.at(x.model).card), x.use_rate);
}

void carry_out(pointer self, give_up_intent& x) { fail_loads(self, x.model, to_error(x.why)); }

/// Lets the policy decide and does what it says; sets the timer for its next decision.
void decide(pointer self) {
  auto& state = self->state;
  const auto now = self->clock().now();
  auto intents = state.policy.decide(now);
  for (auto& intent : intents) {
    const auto id = std::visit([](const auto& x) { return x.model; }, intent);
    std::visit(
        [&](auto& x) {
          if constexpr (std::is_same_v<std::decay_t<decltype(x)>, load_intent>)
            start_load(self, x, intents);
          else
            carry_out(self, x);
        },
        intent);
    publish(self, id);
  }
  const auto next = state.policy.next_wakeup(now);
  if (!next || (state.timer_at > now && state.timer_at <= *next))
    return;
  state.timer_at = *next;
  self->delayed_send(self, *next - now, atom::sweep_v, ++state.timer);
}

/// Whoever waits for this model's memory to be free is answered once no worker holds it.
void answer_unloads(pointer self, const model_id& id) {
  auto& model = self->state.models.at(id);
  if (model.unloads.empty() || self->state.policy.view(id).best)
    return;
  for (auto& promise : std::exchange(model.unloads, {}))
    promise.deliver(status_of(self, id));
}

/// The places of a worker are gone, or those of one have come.
void workers_changed(pointer self) {
  for (auto& [model, entry] : self->state.models) {
    if (!self->state.policy.view(model).best)
      entry.progress = {};
    answer_unloads(self, model);
    publish(self, model);
  }
  decide(self);
}

/// False when it is none of the workers, or one that is known to be gone.
bool worker_gone(pointer self, const caf::actor_control_block* who) {
  if (!strike_off(self, who))
    return false;
  workers_changed(self);
  return true;
}

void enqueue(pointer self, const enqueue_order& order) {
  auto& state = self->state;
  if (order.lost_worker)
    worker_gone(self, order.lost_worker.get());
  const auto now = self->clock().now();
  const auto owner = self->current_sender();
  if (!owner || !state.policy.knows(order.model) || order.sequences.empty())
    return;
  const auto why = state.policy.enqueue(order.model, order.sequences, order.takes, order.keep_alive,
                                        now, order.caps);
  if (why) {
    self->send(invocation_of(owner), atom::refuse_v,
               refusal_notice{order.sequences.front().id, order.sequences.front().epoch,
                              to_failure(*why)});
    return;
  }
  for (const auto& x : order.sequences)
    state.owners[x.id] = {owner, order.model, x.input_tokens, x.accepted, {}, x.resumed};
  // A crash is the one way in which an invocation ends without withdrawing what it has here.
  self->monitor(owner);
  if (auto& model = state.models.at(order.model); state.policy.cold(order.model)) {
    if (model.progress.phase != "loading" && model.progress.phase != "downloading")
      model.progress = {order.model, "queued", 0, model.card->weight_bytes()};
    self->send(invocation_of(owner), atom::progress_v, model.progress);
  }
  const auto& first = order.sequences.front();
  foretell(self, first.id,
           state.policy.ahead_of(order.model, first.tenant, order.sequences.size()));
  decide(self);
  publish(self, order.model);
}

void invocation_down(pointer self, const caf::down_msg& down) {
  if (!down.reason) // it ended in order
    return;
  auto& state = self->state;
  std::erase_if(state.owners, [&](const auto& entry) {
    if (entry.second.invocation->address() != down.source)
      return false;
    state.policy.withdraw(entry.second.model, entry.first, self->clock().now());
    return true;
  });
  decide(self);
}

void enlist(pointer self, const worker_hello& hello) {
  if (hello.protocol != cluster_protocol)
    return log_warning("worker " + hello.node + " speaks cluster protocol " +
                       std::to_string(hello.protocol) + ", this head " +
                       std::to_string(cluster_protocol) + ": run one version of troupe on both");
  if (!self->current_sender())
    return; // it was gone before this was read
  strike_off_before(self, hello);
  sign_on(self, hello);
  workers_changed(self);
}

void report(pointer self, const worker_report& x) {
  auto& state = self->state;
  const auto worker = worker_of(self, self->current_sender());
  if (worker == 0)
    return;
  const auto now = self->clock().now();
  std::set<model_id> changed;
  for (const auto& made : x.served)
    state.policy.charge(worker, made.sequence.model, made.sequence.id, made.sequence.epoch,
                        made.tokens, made.reused);
  for (const auto& gone : x.retired) {
    state.policy.retired(worker, gone.model, gone.id, gone.epoch, now);
    if (const auto at = state.owners.find(gone.id);
        at != state.owners.end() && at->second.dispatched != instant{})
      state.ahead.learn_service(gone.model, now - at->second.dispatched);
    // Its owner may wait for another place already, in a later epoch.
    if (!state.policy.holds(gone.model, gone.id))
      state.owners.erase(gone.id);
    changed.insert(gone.model);
  }
  for (const auto& resident : x.residents) {
    if (!state.policy.knows(resident.model))
      continue;
    state.policy.room(worker, resident.model, resident.room, resident.running, now);
    state.workers.at(worker).update(resident);
    auto& meters = *state.models.at(resident.model).meters;
    meters.kv_usage->Set(resident.kv_usage);
    meters.add(resident.work);
    changed.insert(resident.model);
  }
  if (x.leaving)
    state.policy.worker_leaving(worker);
  if (x.retired.empty() && x.residents.empty() && !x.leaving && !state.policy.holds_back())
    return; // charges alone call for no decision
  decide(self);
  for (const auto& id : changed)
    if (state.models.contains(id))
      publish(self, id);
}

void loaded(pointer self, const load_outcome& x) {
  auto& state = self->state;
  const auto worker = worker_of(self, self->current_sender());
  const auto& id = x.residence.model;
  if (worker == 0)
    return;
  if (!state.policy.knows(id)) // it was asked for by a head that is gone
    return self->send(state.workers.at(worker).handle, atom::unload_v, model_ref{id});
  auto& model = state.models.at(id);
  const auto now = self->clock().now();
  if (!x.early)
    state.ahead.load_over(id);
  if (x.early) {
    state.policy.takes_requests(worker, id, x.residence.takes, x.residence.room, now);
    state.workers.at(worker).residents[id] = x.residence;
    model.card->context_length = x.residence.context_length;
  } else if (!x.error.empty()) {
    const caf::error why =
        caf::make_error(x.files_broken ? errc::files_broken : errc::load_failed, x.error);
    model.progress = {};
    state.policy.load_failed(worker, id, x.error, x.files_broken, now);
    state.workers.at(worker).residents.erase(id);
    fail_loads(self, id, why);
    answer_unloads(self, id);
  } else {
    state.policy.loaded(worker, id, x.residence.takes, x.residence.room, now, x.residence.running);
    state.workers.at(worker).residents[id] = x.residence;
    model.card->context_length = x.residence.context_length;
    model.load_seconds = std::chrono::duration<double>(now - model.load_started).count();
    model.meters->cold_start->Observe(model.load_seconds);
    state.setup.meters->loaded(x.loaded_bytes);
    model.progress = {id, "ready", x.loaded_bytes, x.loaded_bytes};
    tell_waiting(self, id);
    survey(self, worker, id);
    for (auto& promise : std::exchange(model.loads, {}))
      promise.deliver(status_of(self, id));
  }
  decide(self);
  publish(self, id);
}

void unloaded(pointer self, const model_id& id) {
  auto& state = self->state;
  const auto worker = worker_of(self, self->current_sender());
  if (worker == 0 || !state.policy.knows(id))
    return;
  const auto now = self->clock().now();
  state.policy.unloaded(worker, id, now);
  state.workers.at(worker).residents.erase(id);
  auto& model = state.models.at(id);
  if (!state.policy.view(id).best)
    state.ahead.load_over(id);
  model.progress = {};
  model.meters->kv_usage->Set(0);
  model.meters->bound_bytes->Set(0);
  model.meters->swap_bytes->Set(0);
  answer_unloads(self, id);
  decide(self);
  publish(self, id);
}

void on_down(pointer self, const caf::down_msg& down) {
  if (!worker_gone(self, down.source.get()))
    invocation_down(self, down);
}

caf::result<model_status> load(pointer self, const load_wish& wish) {
  auto& state = self->state;
  if (!state.policy.knows(wish.model))
    return no_such_model(wish.model);
  state.policy.want(wish.model, wish.takes, wish.pin, self->clock().now());
  if (!state.policy.cold(wish.model)) {
    decide(self);
    return status_of(self, wish.model);
  }
  auto promise = self->make_response_promise<model_status>();
  state.models.at(wish.model).loads.push_back(promise);
  decide(self);
  publish(self, wish.model);
  return promise;
}

caf::result<model_status> unload(pointer self, const model_id& id) {
  auto& state = self->state;
  if (!state.policy.knows(id))
    return no_such_model(id);
  state.policy.dismiss(id);
  fail_loads(self, id, caf::make_error(errc::load_failed, "model " + id.text + " was unloaded"));
  if (!state.policy.view(id).best)
    return status_of(self, id);
  auto promise = self->make_response_promise<model_status>();
  state.models.at(id).unloads.push_back(promise);
  decide(self);
  return promise;
}

void init(pointer self, scheduler_setup setup) {
  auto& state = self->state;
  state.setup = std::move(setup);
  state.policy = dispatcher{state.setup.policy};
  for (auto& [card, spec] : state.setup.models) {
    auto& model = state.models[card->source.id];
    model.card = card;
    model.meters = &state.setup.meters->of(card->source.id);
    state.policy.add_model(spec);
    publish(self, card->source.id);
  }
  self->set_down_handler([self](const caf::down_msg& down) {
    self->state.setup.self_card->handled();
    on_down(self, down);
  });
}

} // namespace

scheduler_actor::behavior_type scheduler(pointer self, scheduler_setup setup) {
  init(self, std::move(setup));
  const auto count = [self] { self->state.setup.self_card->handled(); };
  return {
      [=](atom::enlist, const worker_hello& hello) { count(), enlist(self, hello); },
      [=](atom::report, const worker_report& x) { count(), report(self, x); },
      [=](atom::progress, const load_progress& x) {
        count();
        if (!self->state.policy.knows(x.model))
          return;
        auto& model = self->state.models.at(x.model);
        if (x.phase == "bound")
          return model.meters->bound_bytes->Set(static_cast<double>(x.done_bytes));
        model.progress = x;
        tell_waiting(self, x.model);
      },
      [=](atom::forecast, const load_account& x) {
        count();
        note_forecast(self, worker_of(self, self->current_sender()), x);
      },
      [=](atom::receipt, const load_account& x) { count(), note_receipt(self, x); },
      [=](atom::prefill, const prefill_note& x) {
        count();
        const auto at = self->state.models.find(x.model);
        if (at != self->state.models.end())
          self->state.ahead.learn_prefill(
              x.model, static_cast<double>(at->second.card->weight_bytes()), x.work, x.seconds);
      },
      [=](atom::loaded, const load_outcome& x) { count(), loaded(self, x); },
      [=](atom::unloaded, const model_ref& x) { count(), unloaded(self, x.model); },
      [=](atom::enqueue, const enqueue_order& order) { count(), enqueue(self, order); },
      [=](atom::withdraw, const model_id& model, const sequence_id& id) {
        count();
        self->state.policy.withdraw(model, id, self->clock().now());
        self->state.owners.erase(id);
        decide(self);
        publish(self, model);
      },
      [=](atom::load, const load_wish& wish) { return count(), load(self, wish); },
      [=](atom::unload, const model_id& id) { return count(), unload(self, id); },
      [=](atom::status) { return count(), statuses(self); },
      [=](atom::status, const model_id& id) -> caf::result<model_status> {
        count();
        if (!self->state.policy.knows(id))
          return no_such_model(id);
        return status_of(self, id);
      },
      [=](atom::list) {
        count();
        std::vector<caf::strong_actor_ptr> out;
        for (const auto& [id, worker] : self->state.workers)
          out.push_back(caf::actor_cast<caf::strong_actor_ptr>(worker.handle));
        return out;
      },
      [=](atom::sweep, uint64_t timer) {
        count();
        if (timer != self->state.timer)
          return;
        self->state.timer_at = {};
        decide(self);
      },
  };
}

} // namespace troupe::actors
