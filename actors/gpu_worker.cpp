#include "actors/gpu_worker.hpp"

#include <algorithm>

#include <caf/all.hpp>

#include "actors/errors.hpp"
#include "actors/watch_list.hpp"
#include "actors/worker_loads.hpp"
#include "engine/errors.hpp"
#include "policies/turns.hpp"
#include "storage/errors.hpp"

namespace troupe::actors {

namespace {

using pointer = worker_pointer;

/// What the engine has done since this was asked last.
engine::engine_counters work_since(hosted_model& x) {
  const auto now = x.engine->counters();
  const auto told = std::exchange(x.told_work, now);
  return {.steps = now.steps - told.steps,
          .rows = now.rows - told.rows,
          .guesses = now.guesses - told.guesses,
          .right_guesses = now.right_guesses - told.right_guesses,
          .recomputed = now.recomputed - told.recomputed,
          .swapped = now.swapped - told.swapped,
          .swap_bytes = now.swap_bytes};
}

void note_room(pointer self, const model_id& id, hosted_model& x) {
  auto now = report_of(id, x);
  if (now.room == x.told_room && now.running == x.told_running && now.kv_bytes == x.told_kv_bytes)
    return;
  x.note_told(now);
  now.work = work_since(x);
  self->state.pending.residents.push_back(std::move(now));
}

/// Sends what has been noted, if anything.
void tell(pointer self) {
  auto& state = self->state;
  // A model may have given up KV memory for another one.
  for (auto& [id, x] : state.models)
    if (x.engine->memory().kv_bytes != x.told_kv_bytes)
      note_room(self, id, x);
  auto report = std::exchange(state.pending, {});
  report.leaving = state.leaving;
  if (state.scheduler &&
      (!report.residents.empty() || !report.retired.empty() || !report.served.empty()))
    self->send(state.scheduler, atom::report_v, std::move(report));
}

/// Forgets a sequence; it got its last token, was cancelled, or is lost.
void retire(pointer self, const model_id& id, hosted_model& x,
            std::map<sequence_id, hosted_model::runner>::iterator at) {
  auto& state = self->state;
  const auto address = at->second.sink->address();
  if (const auto sink = state.sinks.find(address); sink != state.sinks.end()) {
    sink->second.erase({id, at->first});
    if (sink->second.empty()) {
      state.sinks.erase(sink);
      self->demonitor(address);
    }
  }
  state.pending.retired.push_back({id, at->first, at->second.epoch});
  x.runners.erase(at);
  if (x.runners.empty())
    show_worker(self);
}

void answer_drains(pointer self) {
  auto& state = self->state;
  for (const auto& [id, x] : state.models)
    if (!x.runners.empty())
      return;
  for (auto& promise : std::exchange(state.drains, {}))
    promise.deliver(true);
}

void lose(pointer self, const caf::strong_actor_ptr& sink, const sequence_ref& sequence,
          loss_kind kind, std::string message) {
  self->send(caf::actor_cast<token_sink_actor>(sink), atom::lost_v,
             sequence_loss{sequence, kind, std::move(message)});
}

void run(pointer self, run_order& order) {
  auto& state = self->state;
  const auto sink = self->current_sender();
  if (!sink)
    return;
  const sequence_ref ref{order.model, order.sequence.id, order.sequence.epoch};
  const auto at = state.models.find(order.model);
  if (at == state.models.end() || at->second.leaving) {
    lose(self, sink, ref, loss_kind::retry, "the model is no longer on this worker");
    state.pending.retired.push_back(ref);
    return tell(self);
  }
  auto& model = at->second;
  if (const auto old = model.runners.find(ref.id); old != model.runners.end()) {
    if (old->second.epoch > ref.epoch)
      return; // a dispatch that was overtaken; its owner has no use for an answer
    model.engine->cancel(ref.id);
    retire(self, order.model, model, old);
  }
  if (auto why = model.engine->add(std::move(order.sequence))) {
    const auto kind = why == engine::errc::invalid_argument ? loss_kind::invalid
                      : why == engine::errc::busy           ? loss_kind::retry
                                                            : loss_kind::internal;
    lose(self, sink, ref, kind, describe(why));
    state.pending.retired.push_back(ref);
    return tell(self);
  }
  model.runners[ref.id] = {.sink = sink, .epoch = ref.epoch};
  model.is_held = false;
  auto& sequences = state.sinks[sink->address()];
  if (sequences.empty())
    self->monitor(sink);
  sequences.emplace(order.model, ref.id);
  if (model.runners.size() == 1)
    show_worker(self);
  want_step(self);
}

void cancel(pointer self, const model_id& id, sequence_id sequence, std::optional<uint32_t> epoch) {
  const auto at = self->state.models.find(id);
  if (at == self->state.models.end())
    return;
  const auto runner = at->second.runners.find(sequence);
  if (runner == at->second.runners.end() || (epoch && runner->second.epoch != *epoch))
    return;
  at->second.engine->cancel(sequence);
  retire(self, id, at->second, runner);
  note_room(self, id, at->second);
  if (std::exchange(at->second.is_held, false) && !at->second.engine->idle())
    want_step(self);
}

void note_start(pointer self, hosted_model& x) {
  for (auto& [id, runner] : x.runners)
    if (runner.first_step == instant{})
      runner.first_step = self->clock().now();
}

/// A step without all its weights is not run again before more have come, and counts as waiting.
void note_held(pointer self, const model_id& id, hosted_model& x) {
  const auto held = x.engine->held();
  x.is_held = held.has_value();
  if (!held)
    return;
  for (auto& [sequence, runner] : x.runners) {
    runner.first_step = {};
    runner.ran_part = runner.ran_part || held->layers_run > 0;
  }
  self->state.setup.self_card->show("waiting", id.text + ": " + std::to_string(held->layers_run) +
                                                   " of " + std::to_string(held->layers) +
                                                   " layers run, the rest is on its way");
}

/// Tells the owners of sequences that the engine gave up.
void give_up(pointer self, const model_id& id, hosted_model& x) {
  for (const auto& failure : x.engine->take_failures()) {
    const auto runner = x.runners.find(failure.id);
    if (runner == x.runners.end())
      continue;
    lose(self, runner->second.sink, {id, failure.id, failure.epoch}, loss_kind::internal,
         "running model " + id.text + ": " + describe(failure.why));
    retire(self, id, x, runner);
  }
}

/// One more token, for the scheduler's accounts; a step may make several of one sequence.
void note_service(pointer self, sequence_ref sequence, uint32_t reused) {
  auto& served = self->state.pending.served;
  if (!served.empty() && served.back().sequence.id == sequence.id &&
      served.back().sequence.epoch == sequence.epoch &&
      served.back().sequence.model == sequence.model)
    return void(++served.back().tokens);
  served.push_back({std::move(sequence), 1, reused});
}

void deliver(pointer self, const model_id& id, hosted_model& x,
             std::span<engine::token_event> events) {
  // Several choices of one request get one message; in the order of the events, so that a
  // simulation can be repeated.
  std::vector<std::pair<caf::strong_actor_ptr, token_batch>> batches;
  for (auto& event : events) {
    const auto runner = x.runners.find(event.id);
    if (runner == x.runners.end())
      continue;
    const auto ended = event.finish != engine::finish_reason::none;
    note_service(self, {id, event.id, runner->second.epoch}, event.reused);
    auto batch = std::find_if(batches.begin(), batches.end(), [&](const auto& entry) {
      return entry.first == runner->second.sink;
    });
    if (batch == batches.end())
      batch = batches.insert(batch, {runner->second.sink, {}});
    if (!std::exchange(runner->second.has_tokens, true)) {
      batch->second.computing =
          std::max(batch->second.computing, self->clock().now() - runner->second.first_step);
      batch->second.is_part = batch->second.is_part || runner->second.ran_part;
    }
    batch->second.events.push_back(std::move(event));
    if (ended)
      retire(self, id, x, runner);
  }
  for (auto& [sink, batch] : batches)
    self->send(caf::actor_cast<token_sink_actor>(sink), atom::tokens_v, std::move(batch));
}

/// Runs one step of the next model that has work, in turn.
void step(pointer self) {
  auto& state = self->state;
  state.stepping = false;
  const auto at = policies::next_in_turn(state.models, state.last_stepped, [](const auto& entry) {
    return !entry.second.engine->idle() && !entry.second.is_held;
  });
  if (at == state.models.end())
    return;
  const auto id = at->first;
  state.last_stepped = id;
  note_start(self, at->second);
  auto events = at->second.engine->step();
  if (!events) {
    if (device_lost(self, events.error()))
      return;
    abandon(self, id, at->second, events.error());
  } else {
    note_held(self, id, at->second);
    deliver(self, id, at->second, *events);
    give_up(self, id, at->second);
    note_room(self, id, at->second);
    tell(self);
    release(self, id);
  }
  answer_drains(self);
  for (const auto& [other, x] : state.models)
    if (!x.engine->idle() && !x.is_held)
      return want_step(self);
}

void unload(pointer self, const model_id& id) {
  auto& state = self->state;
  const auto at = state.models.find(id);
  if (at == state.models.end()) {
    if (state.scheduler)
      self->send(state.scheduler, atom::unloaded_v, model_ref{id});
    return;
  }
  at->second.leaving = true;
  release(self, id);
}

void enlist(pointer self, const cluster_actor& scheduler) {
  auto& state = self->state;
  state.scheduler = scheduler;
  self->monitor(scheduler);
  worker_hello hello{.protocol = cluster_protocol,
                     .node = state.setup.node,
                     .device = state.setup.device,
                     .limit_bytes = state.setup.limit_bytes,
                     .residents = {},
                     .data_address = state.setup.data_address,
                     .kv_memory_bytes = state.setup.kv_memory_bytes};
  for (auto& [id, x] : state.models) {
    hello.residents.push_back(report_of(id, x));
    x.note_told(hello.residents.back());
  }
  self->send(scheduler, atom::enlist_v, std::move(hello));
  for (auto& [id, x] : state.models)
    if (x.is_coming)
      self->send(scheduler, atom::loaded_v, outcome_of(self, id, x));
  if (state.leaving)
    self->send(scheduler, atom::report_v, worker_report{{}, {}, true});
}

void on_down(pointer self, const caf::down_msg& down) {
  auto& state = self->state;
  if (state.scheduler && same_handle(down.source, state.scheduler)) {
    // Without a head nobody reads what is computed. The models stay, warm for the next one.
    state.scheduler = nullptr;
    for (auto& [id, x] : state.models)
      while (!x.runners.empty()) {
        x.engine->cancel(x.runners.begin()->first);
        retire(self, id, x, x.runners.begin());
      }
    state.pending = {};
    return answer_drains(self);
  }
  const auto at = state.sinks.find(down.source);
  if (at == state.sinks.end())
    return;
  const auto sequences = at->second;
  for (const auto& [model, id] : sequences)
    cancel(self, model, id, std::nullopt);
  tell(self);
  for (const auto& [model, id] : sequences)
    release(self, model);
  answer_drains(self);
}

} // namespace

void release(worker_pointer self, const model_id& id) {
  auto& state = self->state;
  const auto at = state.models.find(id);
  if (at == state.models.end() || !at->second.leaving || !at->second.runners.empty() ||
      at->second.engine->is_lent())
    return;
  const model_ref gone{id}; // `id` may be the key that is about to go
  state.models.erase(at);
  tell(self);
  if (state.scheduler)
    self->send(state.scheduler, atom::unloaded_v, gone);
  show_worker(self);
}

void abandon(worker_pointer self, const model_id& id, hosted_model& x, const caf::error& why) {
  // Damaged files may be mended by the next load, and otherwise refuse it. So does what did not
  // come as it should: it is being fetched anew.
  const bool again = why == storage::errc::corrupted || why == engine::errc::no_twin || x.is_coming;
  const auto kind = again ? loss_kind::retry : loss_kind::internal;
  if (again)
    self->state.doubted.insert(id);
  while (!x.runners.empty()) {
    const auto at = x.runners.begin();
    lose(self, at->second.sink, {id, at->first, at->second.epoch}, kind,
         "running model " + id.text + ": " + describe(why));
    retire(self, id, x, at);
  }
  x.leaving = true;
  release(self, id);
}

void drop_model(worker_pointer self, const model_id& id) {
  auto& state = self->state;
  const auto at = state.models.find(id);
  if (at == state.models.end())
    return;
  while (!at->second.runners.empty())
    retire(self, id, at->second, at->second.runners.begin());
  state.models.erase(at);
  tell(self);
  show_worker(self);
  answer_drains(self);
}

gpu_worker_actor::behavior_type gpu_worker(pointer self, gpu_worker_setup setup) {
  self->state.setup = std::move(setup);
  // They share the memory of what is being loaded: without one the other can keep no promise.
  self->link_to(self->state.setup.loader);
  show_worker(self);
  const auto count = [self] { self->state.setup.self_card->handled(); };
  self->set_down_handler([=](const caf::down_msg& down) { count(), on_down(self, down); });
  return {
      [=](atom::load, const load_order& order) { count(), begin_load(self, order); },
      [=](atom::unload, const model_ref& x) { count(), unload(self, x.model); },
      [=](atom::run, run_order& order) { count(), run(self, order); },
      [=](atom::cancel, const sequence_ref& x) {
        count(), cancel(self, x.model, x.id, x.epoch), tell(self), release(self, x.model);
        answer_drains(self);
      },
      [=](atom::list) { return count(), self->delegate(self->state.setup.registry, atom::list_v); },
      [=](atom::enlist, const cluster_actor& scheduler) { count(), enlist(self, scheduler); },
      [=](atom::opened, opened_model& x) { count(), open_engine(self, x); },
      [=](atom::bound, const model_ref& x) { count(), look_at_weights(self, x.model); },
      [=](atom::progress, load_progress& x) {
        count();
        if (self->state.scheduler)
          self->send(self->state.scheduler, atom::progress_v, std::move(x));
      },
      [=](atom::forecast, load_account& x) {
        count();
        if (self->state.scheduler)
          self->send(self->state.scheduler, atom::forecast_v, std::move(x));
      },
      [=](atom::receipt, load_account& x) {
        count();
        if (self->state.scheduler)
          self->send(self->state.scheduler, atom::receipt_v, std::move(x));
      },
      [=](atom::survey, load_order& order) {
        count();
        order.home = self->state.setup.home;
        tell_stager(self, atom::survey_v, order);
      },
      [=](atom::prefetch, const load_order& order, double rate) {
        count();
        tell_stager(self, atom::prefetch_v, order, rate);
      },
      [=](atom::spare, const model_ref& x) {
        count();
        tell_stager(self, atom::spare_v, x);
      },
      [=](atom::step) { count(), step(self); },
      [=](atom::drain) {
        count();
        auto& state = self->state;
        state.leaving = true;
        if (state.scheduler)
          self->send(state.scheduler, atom::report_v, worker_report{{}, {}, true});
        auto promise = self->make_response_promise<bool>();
        state.drains.push_back(promise);
        answer_drains(self);
        return promise;
      },
  };
}

} // namespace troupe::actors
