#include "actors/checkpoint_loader.hpp"

#include <utility>

#include <caf/all.hpp>

namespace troupe::actors {

namespace {

using pointer = checkpoint_loader_actor::stateful_pointer<checkpoint_loader_state>;

/// Often enough for a progress bar, seldom enough to cost nothing.
constexpr auto progress_pause = std::chrono::milliseconds{50};

void open(pointer self, const load_order& order, const gpu_worker_actor& worker) {
  auto& setup = self->state.setup;
  setup.self_card->show("loading", order.model.text);
  auto told = self->clock().now();
  setup.book->begin(worker.id(), order.model, told);
  const auto progress = [&](uint64_t done, uint64_t total) {
    const auto now = self->clock().now();
    if (now - told >= progress_pause || done == total) {
      told = now;
      self->send(worker, atom::progress_v, load_progress{order.model, "loading", done, total});
    }
    return !setup.stop->load(std::memory_order_relaxed);
  };
  auto opened = setup.open(order, progress);
  opened.order = order;
  const bool failed = static_cast<bool>(opened.why);
  const auto follow = std::exchange(opened.follow, nullptr);
  const auto whence = std::exchange(opened.whence, nullptr);
  self->send(worker, atom::opened_v, std::move(opened));
  if (follow)
    follow(progress);
  if (failed || !whence)
    setup.book->drop(worker.id(), order.model);
  else if (const auto took =
               setup.book->came(worker.id(), order.model, whence(), self->clock().now()))
    self->send(worker, atom::receipt_v, *took);
  setup.self_card->show("idle");
}

/// Brings the files here on other threads; they come back as `fetched`.
void fetch(pointer self, const load_order& order, const gpu_worker_actor& worker) {
  const auto me = caf::actor_cast<checkpoint_loader_actor>(self);
  self->state.setup.fetch(
      order.origin, order.model.text, true,
      [worker, model = order.model](uint64_t done, uint64_t total) {
        caf::anon_send(worker, atom::progress_v, load_progress{model, "downloading", done, total});
      },
      [me, order, worker, began = self->clock().now()](caf::expected<fetched_files> files) {
        fetched_model out{order, caf::actor_cast<caf::strong_actor_ptr>(worker), {}, {}, began};
        if (files)
          out.files = std::move(*files);
        else
          out.why = std::move(files.error());
        caf::anon_send(me, atom::fetched_v, std::move(out));
      });
}

} // namespace

checkpoint_loader_actor::behavior_type checkpoint_loader(pointer self,
                                                         checkpoint_loader_setup setup) {
  self->state.setup = std::move(setup);
  return {
      [self](atom::load, const load_order& order) {
        self->state.setup.self_card->handled();
        const auto worker = caf::actor_cast<gpu_worker_actor>(self->current_sender());
        if (order.dir.empty())
          fetch(self, order, worker);
        else
          open(self, order, worker);
      },
      [self](atom::fetched, fetched_model& x) {
        self->state.setup.self_card->handled();
        const auto worker = caf::actor_cast<gpu_worker_actor>(x.worker);
        if (!x.why) {
          const auto took = self->clock().now() - x.began;
          self->state.setup.book->fetched(worker.id(), x.order.model, link_of(x.order.origin),
                                          static_cast<double>(x.files.fetched_bytes),
                                          std::chrono::duration<double>(took).count());
          x.order.dir = x.files.dir;
          return open(self, x.order, worker);
        }
        opened_model failed;
        failed.order = std::move(x.order);
        failed.why = std::move(x.why);
        self->state.setup.book->drop(worker.id(), failed.order.model);
        self->send(worker, atom::opened_v, std::move(failed));
      },
  };
}

} // namespace troupe::actors
