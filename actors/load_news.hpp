#pragma once
#include "actors/scheduler.hpp"

/// The part of a scheduler that tells how far loads are. Internal to scheduler.cpp, whose state it
/// works on.
namespace troupe::actors {

/// Every request that waits for this model, or runs while it comes, hears how far its load is.
void tell_waiting(scheduler_actor::stateful_pointer<scheduler_state> self, const model_id& id);

} // namespace troupe::actors
