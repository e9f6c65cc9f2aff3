#pragma once
#include <utility>

#include <caf/all.hpp>

namespace troupe::actors {

/// Asks an actor from outside of the actor system: a short-lived actor sends the request and calls
/// `on_value` or `on_error` with what comes back.
template <class Reply, class Handle, class OnValue, class OnError, class... Args>
void ask(caf::actor_system& system, const Handle& whom, std::chrono::milliseconds timeout,
         OnValue on_value, OnError on_error, Args... args) {
  system.spawn([=](caf::event_based_actor* self) {
    // An actor that has died already is no reason to wait for the timeout.
    self->request(whom, timeout, args...)
        .then(
            [=](Reply& value) {
              on_value(value);
              self->quit(); // or the timeout would keep it
            },
            [=](caf::error& why) {
              on_error(why);
              self->quit();
            });
  });
}

} // namespace troupe::actors
