#pragma once
#include "actors/scheduler.hpp"

/// The part of the scheduler that tells requests what they will go through, and went through.
namespace troupe::actors {

using scheduler_pointer = scheduler_actor::stateful_pointer<scheduler_state>;

/// Tells a request, once, what it will go through, if that can be said. `ahead` others come first.
void foretell(scheduler_pointer self, const sequence_id& id, size_t ahead);
/// The same for all that wait for this model.
void foretell_waiting(scheduler_pointer self, const model_id& id);
/// What a load took goes to the requests of its model.
void note_receipt(scheduler_pointer self, const load_account& account);

} // namespace troupe::actors
