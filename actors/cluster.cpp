#include "actors/cluster.hpp"

#include <caf/all.hpp>
#include <caf/io/all.hpp>

#include "actors/errors.hpp"
#include "actors/log.hpp"
#include "actors/system_config.hpp"
#include "actors/watch_list.hpp"
#include "policies/backoff.hpp"

namespace troupe::actors {

namespace {

constexpr auto connect_timeout = std::chrono::seconds{10};

struct link_state {
  static inline const char* name = "cluster-link";
  // Not a handle: CAF makes a state from the actor's pointer if its first member accepts that.
  host_port head;
  gpu_worker_actor worker;
  actor_card_ptr card;
  caf::actor_addr scheduler; ///< the last one found; kept when it is lost
  policies::backoff pauses{std::chrono::milliseconds{50}, std::chrono::seconds{2}};
  bool warned = false;
};
using pointer = cluster_link_actor::stateful_pointer<link_state>;

void retry(pointer self, const std::string& why) {
  auto& state = self->state;
  const auto where = to_string(state.head);
  state.card->show("connecting", where + ": " + why);
  if (!std::exchange(state.warned, true)) // once per outage, not once per attempt
    log_warning("cannot join the head at " + where + ": " + why +
                "; trying again until it answers");
  self->delayed_send(self, state.pauses.next(), atom::dial_v);
}

void connected(pointer self, const caf::strong_actor_ptr& found,
               const std::set<std::string>& offers) {
  auto& state = self->state;
  const auto wanted = self->system().message_types<cluster_actor>();
  if (!found || !std::includes(offers.begin(), offers.end(), wanted.begin(), wanted.end()))
    return retry(self, "what answers there is not a head of this version of troupe");
  // The network module hands out a lost handle until it has heard itself that it is lost.
  if (same_handle(found, state.scheduler))
    return self->delayed_send(self, state.pauses.next(), atom::dial_v);
  const auto scheduler = caf::actor_cast<cluster_actor>(found);
  self->monitor(scheduler);
  state.scheduler = scheduler.address();
  state.pauses.reset();
  state.warned = false;
  state.card->show("joined", to_string(state.head));
  log_info("joined the head at " + to_string(state.head));
  self->send(state.worker, atom::enlist_v, scheduler);
}

cluster_link_actor::behavior_type cluster_link(pointer self, gpu_worker_actor worker,
                                               host_port head, actor_card_ptr card) {
  auto& state = self->state;
  state.worker = std::move(worker);
  state.head = std::move(head);
  state.card = std::move(card);
  self->link_to(state.worker);
  self->set_down_handler([self](const caf::down_msg& down) {
    auto& state = self->state;
    state.card->handled();
    if (!same_handle(down.source, state.scheduler))
      return;
    log_warning("lost the head at " + to_string(state.head));
    self->send(self, atom::dial_v);
  });
  self->send(self, atom::dial_v);
  return {
      [self](atom::dial) {
        auto& state = self->state;
        state.card->handled();
        self->request(self->system().middleman().actor_handle(), connect_timeout,
                      caf::connect_atom::value, state.head.host, state.head.port)
            .then([self](const caf::node_id&, const caf::strong_actor_ptr& found,
                         const std::set<std::string>& offers) { connected(self, found, offers); },
                  [self](const caf::error& why) {
                    retry(self, why == caf::sec::request_timeout
                                    ? "no answer"
                                    : "none runs there, or it does not answer");
                  });
      },
  };
}

} // namespace

void load_network(system_config& config) {
  config.load<caf::io::middleman>();
  // A machine that vanishes closes no connection: only silence tells.
  config.set("middleman.heartbeat-interval", caf::timespan{std::chrono::seconds{2}});
  config.set("middleman.connection-timeout", caf::timespan{std::chrono::seconds{15}});
  config.set("middleman.workers", size_t{0});
}

caf::expected<uint16_t> publish(caf::actor_system& system, const cluster_actor& scheduler,
                                const host_port& at) {
  auto port = system.middleman().publish(scheduler, at.port, at.host.c_str(), true);
  if (!port)
    return caf::make_error(errc::unreachable, "cannot listen for workers at " + to_string(at) +
                                                  "; choose another --cluster-listen address");
  return *port;
}

cluster_link_actor spawn_cluster_link(caf::actor_system& system, gpu_worker_actor worker,
                                      host_port head, actor_card_ptr card) {
  return system.spawn(cluster_link, std::move(worker), std::move(head), std::move(card));
}

} // namespace troupe::actors
