#pragma once
#include "actors/scheduler.hpp"

/// The part of a scheduler that knows which workers there are. Internal to scheduler.cpp, whose
/// state it works on.
namespace troupe::actors {

/// The worker that a message came from; 0 = none that is known.
policies::worker_id worker_of(scheduler_actor::stateful_pointer<scheduler_state> self,
                              const caf::strong_actor_ptr& sender);

/// Takes the worker in that has sent this, with the models that it holds.
void sign_on(scheduler_actor::stateful_pointer<scheduler_state> self, const worker_hello& hello);

/// Forgets this worker, if it is one and is reached by this very handle; true if so. Owners of what
/// ran there have heard of it themselves.
bool strike_off(scheduler_actor::stateful_pointer<scheduler_state> self,
                const caf::actor_control_block* handle);

/// Forgets those whose place the sender of this takes: itself, if it has lost this head and come
/// back before that was seen here, and the last worker of the same device of the same process. What
/// they ran is lost, and nobody else tells its owners.
void strike_off_before(scheduler_actor::stateful_pointer<scheduler_state> self,
                       const worker_hello& hello);

} // namespace troupe::actors
