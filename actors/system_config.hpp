#pragma once
#include <caf/actor_system_config.hpp>

namespace troupe::actors {

/// How every actor system of this project is set up: message types, renderers of errors, and a
/// scheduler whose threads sleep while there is nothing to do.
struct system_config : caf::actor_system_config {
  system_config();
};

} // namespace troupe::actors
