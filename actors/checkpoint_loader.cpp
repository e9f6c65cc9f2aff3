#include "actors/checkpoint_loader.hpp"

#include <algorithm>
#include <utility>

#include <caf/all.hpp>

#include "actors/log.hpp"
#include "storage/errors.hpp"
#include "storage/store/arrival.hpp"

namespace troupe::actors {

namespace {

using pointer = checkpoint_loader_actor::stateful_pointer<checkpoint_loader_state>;

/// Often enough for a progress bar, seldom enough to cost nothing.
constexpr auto progress_pause = std::chrono::milliseconds{50};

/// Tells `worker` how far a load is; false when it shall stop.
open_progress progress_of(pointer self, const load_order& order, const gpu_worker_actor& worker) {
  return [self, model = order.model, worker, told = self->clock().now()](uint64_t done,
                                                                         uint64_t total) mutable {
    const auto now = self->clock().now();
    if (now - told >= progress_pause || done == total) {
      told = now;
      self->send(worker, atom::progress_v, load_progress{model, "loading", done, total});
    }
    return !self->state.setup.stop->load(std::memory_order_relaxed);
  };
}

void open(pointer self, const load_order& order, const gpu_worker_actor& worker) {
  auto& setup = self->state.setup;
  setup.self_card->show("loading", order.model.text);
  setup.book->begin(worker.id(), order.model, self->clock().now());
  const auto progress = progress_of(self, order, worker);
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

/// Opens a model whose weights are still coming. If that cannot be done, it is opened when all of
/// them are here.
void open_early(pointer self, load_order& order, const gpu_worker_actor& worker) {
  auto& state = self->state;
  order.dir = order.arriving->dir().string();
  auto opened = state.setup.open(order, progress_of(self, order, worker));
  if (opened.why || !opened.follow)
    return;
  state.early.push_back({worker.id(), order, std::exchange(opened.follow, nullptr)});
  opened.whence = nullptr;
  opened.order = order;
  self->send(worker, atom::opened_v, std::move(opened));
}

/// All of a model is here. False if it was not opened before.
bool end_early(pointer self, const fetched_model& x, const gpu_worker_actor& worker) {
  auto& state = self->state;
  const auto at = std::find_if(state.early.begin(), state.early.end(), [&](const auto& one) {
    return one.worker == worker.id() && one.order.model == x.order.model;
  });
  if (x.order.whole || at == state.early.end())
    return false;
  const auto load = std::move(*at);
  state.early.erase(at);
  // What comes last has to get from the disk to where it is used; not for long.
  load.follow(progress_of(self, load.order, worker));
  const auto& files = load.order.arriving->files();
  if (x.why || std::any_of(files.begin(), files.end(), [](const auto& one) { return one->why(); }))
    return true; // the worker hears it from its engine
  // Reading went on beside the fetching, so it says nothing about the disk.
  if (const auto took = state.setup.book->came(worker.id(), x.order.model, {}, self->clock().now()))
    self->send(worker, atom::receipt_v, *took);
  return true;
}

/// What `fetched` will hear of an order, as far as it is known when its files are asked for.
fetched_model begun(pointer self, const load_order& order, const gpu_worker_actor& worker) {
  return {order, caf::actor_cast<caf::strong_actor_ptr>(worker), {}, {}, self->clock().now()};
}

/// The worker hears how far the fetching is.
fetch_events shown_to(const gpu_worker_actor& worker, const model_id& model) {
  fetch_events out;
  out.progress = [worker, model](uint64_t done, uint64_t total) {
    caf::anon_send(worker, atom::progress_v, load_progress{model, "downloading", done, total});
  };
  return out;
}

/// Brings the files here on other threads; they come back as `fetched`.
void fetch(pointer self, const load_order& order, const gpu_worker_actor& worker) {
  const auto me = caf::actor_cast<checkpoint_loader_actor>(self);
  const auto told = begun(self, order, worker);
  auto events = shown_to(worker, order.model);
  if (!order.whole)
    events.early = [me, told](std::shared_ptr<const storage::arriving_model> arriving) {
      auto out = told;
      out.order.arriving = std::move(arriving);
      caf::anon_send(me, atom::fetched_v, std::move(out));
    };
  if (self->state.setup.share)
    self->state.setup.share(order, events);
  events.then = [me, told, offer = self->state.setup.offer](caf::expected<fetched_files> files) {
    auto out = told;
    if (files && offer)
      offer(told.order, files->dir);
    if (files)
      out.files = std::move(*files);
    else
      out.why = std::move(files.error());
    caf::anon_send(me, atom::fetched_v, std::move(out));
  };
  self->state.setup.fetch(order.origin, order.model.text, true, std::move(events));
}

/// Has what is damaged of a model fetched anew; comes back as `fetched`.
void mend(pointer self, const load_order& order, const gpu_worker_actor& worker) {
  const auto me = caf::actor_cast<checkpoint_loader_actor>(self);
  const auto told = begun(self, order, worker);
  auto events = shown_to(worker, order.model);
  events.then = [me, told](const caf::expected<fetched_files>& files) {
    auto out = told;
    const auto& damage = told.order.damage;
    if (files)
      log_info("model " + told.order.model.text + ": " + damage + "; " +
               std::to_string(files->fetched_bytes) + " bytes were fetched anew");
    else if (files.error() == storage::errc::not_found) // nobody has it
      out.why = caf::make_error(storage::errc::corrupted, damage);
    else
      out.why = caf::make_error(storage::errc::corrupted,
                                damage + "; fetching it anew failed: " + describe(files.error()));
    caf::anon_send(me, atom::fetched_v, std::move(out));
  };
  self->state.setup.mend(order.dir, std::move(events));
}

void fetched(pointer self, fetched_model& x) {
  auto& book = *self->state.setup.book;
  const auto worker = caf::actor_cast<gpu_worker_actor>(x.worker);
  if (x.order.arriving)
    return open_early(self, x.order, worker);
  const bool mended = !x.order.damage.empty();
  if (!x.why && !mended) {
    const auto now = self->clock().now();
    book.fetched(worker.id(), x.order.model, link_of(x.order.origin),
                 static_cast<double>(x.files.fetched_bytes),
                 std::chrono::duration<double>(now - x.began).count());
    book.begin(worker.id(), x.order.model, now);
  }
  if (end_early(self, x, worker))
    return;
  if (!x.why) {
    if (!mended)
      x.order.dir = x.files.dir;
    return open(self, x.order, worker);
  }
  opened_model failed;
  failed.order = std::move(x.order);
  failed.why = std::move(x.why);
  book.drop(worker.id(), failed.order.model);
  self->send(worker, atom::opened_v, std::move(failed));
}

} // namespace

checkpoint_loader_actor::behavior_type checkpoint_loader(pointer self,
                                                         checkpoint_loader_setup setup) {
  self->state.setup = std::move(setup);
  return {
      [self](atom::load, const load_order& order) {
        self->state.setup.self_card->handled();
        const auto worker = caf::actor_cast<gpu_worker_actor>(self->current_sender());
        if (!order.damage.empty())
          mend(self, order, worker);
        else if (order.dir.empty())
          fetch(self, order, worker);
        else
          open(self, order, worker);
      },
      [self](atom::fetched, fetched_model& x) {
        self->state.setup.self_card->handled();
        fetched(self, x);
      },
  };
}

} // namespace troupe::actors
