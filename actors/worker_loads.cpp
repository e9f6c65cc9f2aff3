#include "actors/worker_loads.hpp"

#include <algorithm>

#include <caf/all.hpp>

#include "actors/log.hpp"
#include "engine/errors.hpp"
#include "gpu/errors.hpp"
#include "policies/load_cost.hpp"
#include "storage/errors.hpp"

namespace troupe::actors {

namespace {

/// The account of a load whose weights are all where the engine reads them.
void note_ready(worker_pointer self, const model_id& id, hosted_model& x) {
  auto& state = self->state;
  x.is_accounted = true;
  const auto bind = x.making_seconds + x.engine->weights().busy_seconds;
  const auto took =
      state.setup.book->ready(self->id(), id, std::max(bind, 1e-6), self->clock().now());
  if (took && state.scheduler)
    self->send(state.scheduler, atom::receipt_v, *took);
}

bool files_broken(const caf::error& why) {
  if (why.category() == caf::atom("storage"))
    return why != storage::errc::cancelled && why != storage::errc::unreadable &&
           why != storage::errc::unavailable && why != storage::errc::denied &&
           why != storage::errc::no_space && why != storage::errc::in_use &&
           why != storage::errc::no_memory;
  if (why.category() == caf::atom("engine"))
    return why != engine::errc::out_of_memory && why != engine::errc::invalid_argument;
  return false;
}

/// Has the loader begin anew, as `x.order` says by now.
void load_again(worker_pointer self, const model_id& id, loading_model& x) {
  auto& state = self->state;
  x.engine = nullptr;
  x.order.arriving = nullptr;
  state.setup.book->drop(self->id(), id);
  state.setup.book->announce(self->id(), id, self->clock().now());
  self->send(state.setup.loader, atom::load_v, x.order);
}

/// The device that had the weights has them no more.
void load_from_files(worker_pointer self, const model_id& id, loading_model& x) {
  x.order.home = {};
  load_again(self, id, x);
}

/// True if what is damaged of the model's files can perhaps be had anew: that is being tried.
bool mend(worker_pointer self, const model_id& id, loading_model& x, const caf::error& why) {
  if (why != storage::errc::corrupted || x.order.dir.empty() || !x.order.damage.empty())
    return false;
  x.order.damage = describe(why);
  load_again(self, id, x);
  return true;
}

/// Shows how much of a model an engine has that waits for the rest.
void tell_bound(worker_pointer self, const model_id& id, const engine::weight_state& now) {
  if (self->state.scheduler)
    self->send(self->state.scheduler, atom::progress_v,
               load_progress{id, "bound", now.total_bytes - now.left_bytes, now.total_bytes});
}

/// All weights have come of a model that takes requests already.
void end_coming(worker_pointer self, const model_id& id, hosted_model& x) {
  x.is_coming = false;
  self->state.doubted.erase(id);
  if (self->state.scheduler)
    self->send(self->state.scheduler, atom::loaded_v, outcome_of(self, id, x));
}

load_outcome failed_load(worker_pointer self, const model_id& id, const caf::error& why) {
  load_outcome out;
  out.residence.model = id;
  out.error = "loading model " + id.text + " on " + self->state.setup.node + ": " + describe(why);
  out.files_broken = files_broken(why);
  return out;
}

/// What came is not what it should be, and is being fetched anew; or it can only be understood once
/// all of it is here.
bool next_may_succeed(const caf::error& why) {
  return why == storage::errc::corrupted || why == storage::errc::changed ||
         why == storage::errc::unsupported || why == storage::errc::no_memory ||
         why == engine::errc::wrong_tensor;
}

/// The rest will not come of a model that takes requests already. The scheduler tells those that
/// wait for it here why.
void end_coming_in_vain(worker_pointer self, const model_id& id, const caf::error& why) {
  auto& state = self->state;
  state.setup.book->drop(self->id(), id);
  if (state.scheduler)
    self->send(state.scheduler, atom::loaded_v, failed_load(self, id, why));
  drop_model(self, id);
}

/// Tells how a load ended, and forgets it.
void end_load(worker_pointer self, const model_id& id, const caf::error& why) {
  auto& state = self->state;
  const auto at = state.loading.find(id);
  auto& x = at->second;
  load_outcome out;
  if (why) {
    state.setup.book->drop(self->id(), id);
    out = failed_load(self, id, why);
  } else {
    auto& model = state.models[id];
    model.engine = std::move(x.engine);
    model.making_seconds = x.making_seconds;
    model.began = x.began;
    model.weight_bytes = x.weight_bytes;
    const bool is_whole = model.engine->weights().left_bytes == 0;
    model.is_coming = !is_whole && x.order.arriving;
    out = outcome_of(self, id, model);
    if (is_whole)
      note_ready(self, id, model);
  }
  state.loading.erase(at);
  state.doubted.erase(id);
  if (state.scheduler)
    self->send(state.scheduler, atom::loaded_v, std::move(out));
  show_worker(self);
}

} // namespace

bool device_lost(worker_pointer self, const caf::error& why) {
  if (why != gpu::errc::device_failed)
    return false;
  log_error("device " + self->state.setup.device + " failed: " + describe(why));
  self->quit(why);
  return true;
}

void want_step(worker_pointer self) {
  if (!std::exchange(self->state.stepping, true))
    self->send(self, atom::step_v);
}

load_outcome outcome_of(worker_pointer self, const model_id& id, hosted_model& x) {
  load_outcome out;
  out.residence = report_of(id, x);
  x.note_told(out.residence);
  out.loaded_bytes = x.weight_bytes;
  out.seconds = std::chrono::duration<double>(self->clock().now() - x.began).count();
  out.early = x.is_coming;
  return out;
}

residence_report report_of(const model_id& id, const hosted_model& x) {
  const auto memory = x.engine->memory();
  return {.model = id,
          .takes = footprint_of(memory),
          .room = x.leaving ? 0 : x.engine->room(),
          .running = x.engine->running() + x.engine->waiting(),
          .kv_usage = x.engine->kv_usage(),
          .context_length = x.engine->context_length(),
          .kv_bytes = memory.kv_bytes};
}

void show_worker(worker_pointer self) {
  auto& state = self->state;
  size_t running = 0;
  for (const auto& [id, x] : state.models)
    running += x.runners.size();
  state.setup.self_card->show(!state.loading.empty() ? "loading"
                              : running > 0          ? "running"
                                                     : "idle",
                              std::to_string(state.models.size()) + " models, " +
                                  std::to_string(running) + " sequences");
}

void look_at_weights(worker_pointer self, const model_id& id) {
  auto& state = self->state;
  if (const auto at = state.models.find(id); at != state.models.end()) {
    auto& x = at->second;
    const auto now = x.engine->weights();
    if (now.why) {
      if (device_lost(self, now.why))
        return;
      if (x.is_coming && !next_may_succeed(now.why))
        return end_coming_in_vain(self, model_id{id}, now.why);
      return abandon(self, id, x, now.why);
    }
    if (x.is_coming)
      tell_bound(self, id, now);
    if (now.left_bytes == 0 && !x.is_accounted)
      note_ready(self, id, x);
    if (now.left_bytes == 0 && x.is_coming)
      end_coming(self, id, x);
    if (std::exchange(x.is_held, false) && !x.engine->idle())
      want_step(self);
    return release(self, id); // another device may have copied the last of it
  }
  const auto at = state.loading.find(id);
  if (at == state.loading.end() || !at->second.engine)
    return;
  auto& x = at->second;
  const auto now = x.engine->weights();
  if (device_lost(self, now.why))
    return;
  if (now.why == storage::errc::no_memory && !x.order.mapped) {
    // The page cache makes do with what there is.
    x.order.mapped = true;
    return load_again(self, id, x);
  }
  if (now.why == engine::errc::no_twin)
    return load_from_files(self, id, x);
  if (x.order.arriving && next_may_succeed(now.why)) {
    x.order.whole = true;
    return load_again(self, id, x);
  }
  if (now.why)
    return mend(self, id, x, now.why) ? void() : end_load(self, id, now.why);
  tell_bound(self, id, now);
  if (now.left_bytes > 0 && state.doubted.contains(id))
    return;
  if (x.order.arriving)
    return end_load(self, id, {});
  const auto seconds = std::chrono::duration<double>(self->clock().now() - x.bound_since).count();
  const auto done = static_cast<double>(now.total_bytes - now.left_bytes);
  if (policies::may_start_early(static_cast<double>(now.left_bytes),
                                seconds > 0 ? done / seconds : 0))
    end_load(self, id, {});
}

void open_engine(worker_pointer self, opened_model& x) {
  auto& state = self->state;
  const auto id = x.order.model;
  const auto at = state.loading.find(id);
  if (at == state.loading.end())
    return;
  if (!x.order.arriving)
    at->second.order.dir = x.order.dir;
  if (x.why)
    return mend(self, id, at->second, x.why) ? void() : end_load(self, id, x.why);
  // Weak: the engine is this actor's own.
  x.order.options.on_weights = [me = caf::actor_cast<caf::weak_actor_ptr>(self), id] {
    if (const auto worker = caf::actor_cast<caf::strong_actor_ptr>(me))
      caf::anon_send(caf::actor_cast<gpu_worker_actor>(worker), atom::bound_v, model_ref{id});
  };
  const auto began = self->clock().now();
  auto engine = state.setup.make_engine(x);
  if (!engine && engine.error() == engine::errc::no_twin)
    return load_from_files(self, id, at->second);
  if (!engine)
    return device_lost(self, engine.error()) ? void() : end_load(self, id, engine.error());
  at->second.engine = std::move(*engine);
  at->second.order.arriving = x.order.arriving;
  at->second.weight_bytes = x.weight_bytes;
  at->second.bound_since = self->clock().now();
  at->second.making_seconds = std::chrono::duration<double>(at->second.bound_since - began).count();
  look_at_weights(self, id);
}

void begin_load(worker_pointer self, const load_order& order) {
  auto& state = self->state;
  if (const auto at = state.models.find(order.model); at != state.models.end()) {
    // The scheduler changed its mind while the model was leaving.
    at->second.leaving = false;
    if (state.scheduler)
      self->send(state.scheduler, atom::loaded_v, outcome_of(self, order.model, at->second));
    return;
  }
  const auto [at, fresh] = state.loading.try_emplace(order.model);
  if (fresh) {
    at->second.began = self->clock().now();
    at->second.order = order;
    at->second.order.whole = order.whole || state.doubted.contains(order.model);
    at->second.order.home = state.setup.home;
    state.setup.book->announce(self->id(), order.model, self->clock().now());
    self->send(state.setup.loader, atom::load_v, at->second.order);
    tell_stager(self, atom::survey_v, at->second.order);
  }
  show_worker(self);
}

} // namespace troupe::actors
