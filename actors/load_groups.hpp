#pragma once
#include <vector>

#include "actors/foretelling.hpp"

namespace troupe::actors {

/// Says in `order`, the load `x`, which nodes have the model, and which get it at the same time:
/// the other loads of it among `all`; if there are none, those that began earlier and still run.
void add_peers(scheduler_pointer self, const policies::load_intent& x,
               const std::vector<policies::intent>& all, load_order& order);

} // namespace troupe::actors
