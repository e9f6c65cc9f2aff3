#pragma once
#include <cstdint>
#include <string>

#include <caf/actor_system.hpp>

#include "actors/messages.hpp"
#include "base/host_port.hpp"

/// The only place that knows CAF's network module.
namespace troupe::actors {

struct system_config;

/// To be called before the actor system is made.
void load_network(system_config& config);

/// Lets workers of other processes find the scheduler. Returns the port.
caf::expected<uint16_t> publish(caf::actor_system& system, const cluster_actor& scheduler,
                                const host_port& at);

/// Finds the head of a cluster and introduces the worker to it, again and again whenever the head
/// is lost.
using cluster_link_actor = caf::typed_actor<
    // INTERNAL: tries to connect.
    caf::reacts_to<atom::dial>>;

cluster_link_actor spawn_cluster_link(caf::actor_system& system, gpu_worker_actor worker,
                                      host_port head, actor_card_ptr card);

} // namespace troupe::actors
