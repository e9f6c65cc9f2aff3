#pragma once
#include "actors/scheduler.hpp"

/// The part of the scheduler that tells requests what they will go through, and went through.
namespace troupe::actors {

using scheduler_pointer = scheduler_actor::stateful_pointer<scheduler_state>;

/// Tells a request, once, what it will go through, if that can be said. `ahead` others come first.
void foretell(scheduler_pointer self, const sequence_id& id, size_t ahead);
/// The same for all that wait for this model.
void foretell_waiting(scheduler_pointer self, const model_id& id);
/// What a load on a worker would take, or will take if it is under way.
void note_forecast(scheduler_pointer self, policies::worker_id worker, const load_account& account);
/// Has a worker say again what a load would take: what its tiers hold has changed.
void survey(scheduler_pointer self, policies::worker_id worker, const model_id& model);
/// What a load took goes to the requests of its model.
void note_receipt(scheduler_pointer self, const load_account& account);

/// What a worker is told to load, look at or prefetch.
load_order order_of(const model_card& card);

} // namespace troupe::actors
