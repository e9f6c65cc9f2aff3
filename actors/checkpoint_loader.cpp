#include "actors/checkpoint_loader.hpp"

#include <caf/all.hpp>

namespace troupe::actors {

namespace {

/// Often enough for a progress bar, seldom enough to cost nothing.
constexpr auto progress_pause = std::chrono::milliseconds{50};

} // namespace

checkpoint_loader_actor::behavior_type
checkpoint_loader(checkpoint_loader_actor::stateful_pointer<checkpoint_loader_state> self,
                  checkpoint_loader_setup setup) {
  self->state.setup = std::move(setup);
  return {
      [self](atom::load, const load_order& order) {
        auto& setup = self->state.setup;
        setup.self_card->handled();
        setup.self_card->show("loading", order.model.text);
        const auto worker = caf::actor_cast<gpu_worker_actor>(self->current_sender());
        auto told = self->clock().now();
        const auto progress = [&](uint64_t done, uint64_t total) {
          const auto now = self->clock().now();
          if (now - told >= progress_pause || done == total) {
            told = now;
            self->send(worker, atom::progress_v,
                       load_progress{order.model, "loading", done, total});
          }
          return !setup.stop->load(std::memory_order_relaxed);
        };
        auto opened = setup.open(order, progress);
        opened.order = order;
        self->send(worker, atom::opened_v, std::move(opened));
        setup.self_card->show("idle");
      },
  };
}

} // namespace troupe::actors
