#pragma once
#include <caf/send.hpp>

#include "actors/gpu_worker.hpp"

/// The part of a gpu_worker that brings models to it. Internal to gpu_worker.cpp, whose state it
/// works on.
namespace troupe::actors {

using worker_pointer = gpu_worker_actor::stateful_pointer<gpu_worker_state>;

/// Asks the loader for a model, unless it is here or coming already.
void begin_load(worker_pointer self, const load_order& order);
/// Makes the engine of a model whose load has begun, or is over.
void open_engine(worker_pointer self, opened_model& x);
/// Hands a model over to the scheduler when its weights are there, or nearly so; at once if they
/// come from elsewhere, which may take long: layers then run as they come. Gives it up if they will
/// not come.
void look_at_weights(worker_pointer self, const model_id& id);

/// Sees to it that a step is run.
void want_step(worker_pointer self);

residence_report report_of(const model_id& id, const hosted_model& x);
/// Tells the inspector what this worker does.
void show_worker(worker_pointer self);
/// Ends the worker if `why` says that its device failed: nothing that it holds can be used any
/// more. Whoever has the worker started again gives it a new device; requests go on where they
/// were.
bool device_lost(worker_pointer self, const caf::error& why);
/// Frees a model that is to leave, once nothing runs on it and no other device copies it.
void release(worker_pointer self, const model_id& id);
/// Ends all that runs on a model whose engine failed: nothing it computes can be trusted any more.
void abandon(worker_pointer self, const model_id& id, hosted_model& x, const caf::error& why);
/// Frees a model and all that runs on it, of which nobody is told.
void drop_model(worker_pointer self, const model_id& id);
/// What the scheduler hears of a model that takes requests.
load_outcome outcome_of(worker_pointer self, const model_id& id, hosted_model& x);

template <class Verb, class... What>
void tell_stager(worker_pointer self, Verb verb, const What&... what) {
  const auto& where = self->state.setup.where;
  if (const auto to = where ? where->stager() : stager_actor{})
    self->send(to, verb, what...);
}

} // namespace troupe::actors
