#include <algorithm>
#include <utility>

#include "policies/dispatcher.hpp"

namespace troupe::policies {

namespace {

std::string mib(uint64_t bytes) { return std::to_string((bytes + (1u << 20) - 1) >> 20) + " MiB"; }

} // namespace

std::vector<intent> dispatcher::decide(instant now) {
  std::vector<intent> out;
  out.swap(pending_);
  hand_out(closed(now), now, out);
  unload_idle(now, out);
  do {
    again_ = false;
    find_places(now, out);
    place_copies(now);
    start_loads(out);
  } while (again_);
  refuse_hopeless(now, out);
  look_ahead(now, out);
  std::erase_if(active_, [&](const model_id& id) {
    const auto& model = models_.at(id);
    return model.queue.size() == 0 && model.at.empty() && !model.wanted && !model.spec.pinned;
  });
  return out;
}

std::optional<instant> dispatcher::next_wakeup(instant now) const {
  std::optional<instant> next;
  const auto at = [&](instant when) {
    when = std::max(when, now + std::chrono::milliseconds{1});
    next = next ? std::min(*next, when) : when;
  };
  if (!away_.empty())
    at(looked_ahead_ + look_pause);
  for (const auto& id : active_) {
    const auto& model = models_.at(id);
    for (const auto worker : model.at) {
      const auto& x = workers_.at(worker).residents.at(id);
      if (const auto when = overdue_at(model, x))
        at(*when);
    }
    if (needs_place(model) && now < model.retry_at)
      at(model.retry_at);
    const auto oldest = model.queue.oldest();
    if (!oldest || !needs_place(model))
      continue;
    if (workerless_since_) {
      at(std::max(*oldest, *workerless_since_) + config_.worker_grace);
      continue;
    }
    if (now < *oldest + config_.patience) {
      at(*oldest + config_.patience);
      continue;
    }
    // Patience is over: the next busy model that has stayed its time may be closed.
    for (const auto& [worker, state] : workers_)
      for (const auto& [other, x] : state.residents)
        if (x.state == residence::ready && now < x.ready_since + config_.stay_min)
          at(x.ready_since + config_.stay_min);
  }
  return next;
}

std::vector<worker_space> dispatcher::spaces(instant now, const model_id* coming) const {
  std::vector<worker_space> out;
  for (const auto& [id, worker] : workers_) {
    if (worker.leaving)
      continue;
    worker_space space{id, worker.limit_bytes, {}};
    if (coming != nullptr)
      space.load_seconds = load_seconds(worker, *coming) + queue_seconds(worker);
    // Where nobody has looked, recency decides who goes.
    const auto cost = [&, &costs = worker.load_seconds](const model_id& model) {
      const auto at = costs.find(model);
      return at == costs.end() ? 0 : at->second;
    };
    for (const auto& [model, x] : worker.residents) {
      const bool ready = x.state == residence::ready;
      const bool stayed = now >= x.ready_since + config_.stay_min;
      // One that has just come for its own waiting sequences gets to run them first.
      const bool idle = ready && x.idle() && (stayed || models_.at(model).queue.size() == 0);
      space.models.push_back({.model = model,
                              .takes = x.takes,
                              .pinned = models_.at(model).spec.pinned,
                              .idle = idle,
                              .closable = ready && !idle && stayed,
                              .leaving = x.state == residence::leaving,
                              .last_used = x.last_used,
                              .reload_seconds = cost(model),
                              .use_rate = arrivals_.rate(model, now)});
    }
    out.push_back(std::move(space));
  }
  return out;
}

/// Somebody waits and no copy is ready, on its way, or about to be.
bool dispatcher::needs_place(const model_state& model) const {
  if (model.queue.size() == 0 && !model.wanted && !model.spec.pinned)
    return false;
  return std::all_of(model.at.begin(), model.at.end(), [&](worker_id worker) {
    const auto& state = workers_.at(worker);
    return state.leaving || state.residents.at(model.spec.id).state == residence::leaving;
  });
}

std::vector<dispatcher::model_state*> dispatcher::models_without_place() {
  std::vector<model_state*> out;
  for (const auto& id : active_)
    if (auto& model = models_.at(id); needs_place(model))
      out.push_back(&model);
  // The longest wait first; without a queue, whoever asked first, after all queues.
  std::stable_sort(out.begin(), out.end(), [](const model_state* a, const model_state* b) {
    const auto oldest_a = a->queue.oldest(), oldest_b = b->queue.oldest();
    if (oldest_a && oldest_b)
      return *oldest_a < *oldest_b;
    if (oldest_a || oldest_b)
      return oldest_a.has_value();
    return a->wanted_since < b->wanted_since;
  });
  return out;
}

std::set<std::pair<worker_id, model_id>> dispatcher::closed(instant now) {
  std::set<std::pair<worker_id, model_id>> out;
  for (const auto& [worker, state] : workers_)
    for (const auto& [id, x] : state.residents)
      if (x.dismissed)
        out.emplace(worker, id);
  for (const auto* model : models_without_place()) {
    const auto oldest = model->queue.oldest();
    if (!oldest || now < *oldest + config_.patience || now < model->retry_at)
      continue;
    const auto all = spaces(now, &model->spec.id);
    if (const auto place = find_place(all, model->takes)) {
      // Idle at this moment: they must not be given their own waiting sequences first.
      for (const auto& victim : place->evict)
        out.emplace(place->worker, victim);
      continue;
    }
    for (auto& x : find_models_to_close(all, model->takes))
      out.insert(std::move(x));
    break; // one at a time: closing for several at once would empty the worker
  }
  return out;
}

void dispatcher::hand_out(const std::set<std::pair<worker_id, model_id>>& closed, instant now,
                          std::vector<intent>& out) {
  holds_back_ = false;
  for (const auto& id : active_) {
    auto& model = models_.at(id);
    while (model.queue.size() > 0) {
      resident* best = nullptr;
      worker_id where = 0;
      for (const auto worker : model.at) {
        auto& x = workers_.at(worker).residents.at(id);
        if (!x.takes_requests() || x.places() == 0 || workers_.at(worker).leaving ||
            closed.contains({worker, id}))
          continue;
        // Where all weights are, answers come at once.
        const auto worth = [](const resident& one) {
          return std::make_pair(one.state == residence::ready, one.places());
        };
        if (best && worth(*best) >= worth(x))
          continue;
        best = &x;
        where = worker;
      }
      if (!best)
        break;
      const auto popped = model.queue.pop(
          [&](const fair_share& tenant) { return may_take(model, *best, tenant, now); });
      holds_back_ = holds_back_ || !popped;
      if (!popped)
        break;
      const auto& next = *popped;
      share_services(model);
      const bool urgent = is_urgent(model, *best, next.tenant);
      best->assigned[next.id] = next.epoch;
      holds_.started(next.id);
      best->last_used = now;
      best->used = true;
      best->keep_alive = keep_alive_of(model);
      out.emplace_back(dispatch_intent{next, id, where, urgent});
    }
  }
}

void dispatcher::send_away(worker_id worker, const model_id& model, unload_reason why,
                           std::vector<intent>& out) {
  find(worker, model)->state = residence::leaving;
  out.emplace_back(unload_intent{model, worker, why});
}

void dispatcher::unload_idle(instant now, std::vector<intent>& out) {
  for (const auto& id : active_) {
    auto& model = models_.at(id);
    for (const auto worker : model.at) {
      const auto& x = workers_.at(worker).residents.at(id);
      if (x.dismissed && x.takes_requests() && x.idle())
        send_away(worker, id, unload_reason::asked, out);
      else if (const auto when = overdue_at(model, x); when && *when <= now)
        send_away(worker, id, unload_reason::keep_alive, out);
    }
  }
}

void dispatcher::find_places(instant now, std::vector<intent>& out) {
  for (auto* model : models_without_place()) {
    if (now < model->retry_at || model->takes.own_bytes == 0)
      continue;
    auto all = spaces(now, &model->spec.id);
    // Not where a copy of it is just being freed.
    std::erase_if(all, [&](const worker_space& x) { return model->at.contains(x.worker); });
    const auto place = find_place(all, model->takes);
    if (!place)
      continue;
    for (const auto& victim : place->evict)
      send_away(place->worker, victim, unload_reason::make_room, out);
    auto& x = workers_.at(place->worker).residents[model->spec.id];
    x.state = residence::reserved;
    x.takes = model->takes;
    model->at.insert(place->worker);
  }
}

/// Somebody uses it, a copy is on its way or there, and there should be more of them.
bool dispatcher::wants_copy(const model_state& model, instant now) const {
  if (model.spec.replicas < 2 || now < model.retry_at || model.takes.own_bytes == 0 ||
      model.at.empty() || needs_place(model) ||
      (model.queue.size() == 0 && !model.wanted && !model.spec.pinned))
    return false;
  const auto copies = std::ranges::count_if(model.at, [&](worker_id worker) {
    const auto& state = workers_.at(worker);
    return !state.leaving && state.residents.at(model.spec.id).state != residence::leaving;
  });
  return static_cast<uint64_t>(copies) < model.spec.replicas;
}

void dispatcher::place_copies(instant now) {
  for (const auto& id : active_)
    for (auto& model = models_.at(id); wants_copy(model, now);) {
      auto all = spaces(now, &id);
      std::erase_if(all, [&](const worker_space& x) { return model.at.contains(x.worker); });
      const auto place = find_place(all, model.takes);
      if (!place || !place->evict.empty())
        break;
      auto& x = workers_.at(place->worker).residents[id];
      x.state = residence::reserved;
      x.takes = model.takes;
      model.at.insert(place->worker);
    }
}

void dispatcher::start_loads(std::vector<intent>& out) {
  for (auto& [id, worker] : workers_) {
    // A reservation counts, so this is within the limit once those that make room are gone.
    if (worker.used().all() > worker.limit_bytes) {
      cancel_reservations(worker, id);
      continue;
    }
    for (auto& [model, x] : worker.residents) {
      if (x.state != residence::reserved)
        continue;
      x.state = residence::loading;
      out.emplace_back(load_intent{model, id});
    }
  }
}

/// A model that turned out larger than was thought may have taken the room that was reserved.
void dispatcher::cancel_reservations(worker_state& worker, worker_id id) {
  for (const auto& [model, x] : worker.residents)
    if (x.state == residence::leaving)
      return; // room is still being made
  std::erase_if(worker.residents, [&](const auto& entry) {
    if (entry.second.state != residence::reserved)
      return false;
    models_.at(entry.first).at.erase(id);
    again_ = true;
    return true;
  });
}

void dispatcher::refuse_all(model_state& model, const refusal& why, instant now,
                            std::vector<intent>& out) {
  for (const auto& x : model.queue.list()) {
    model.queue.erase(x.id);
    holds_.end(x.id, now, held_until(model, now));
    out.emplace_back(refuse_intent{x.id, x.epoch, model.spec.id, why});
  }
  if (std::exchange(model.wanted, false))
    out.emplace_back(give_up_intent{model.spec.id, why});
}

void dispatcher::refuse_hopeless(instant now, std::vector<intent>& out) {
  const auto all = spaces(now);
  for (auto* model : models_without_place()) {
    if (workers_.empty()) {
      const auto oldest = model->queue.oldest();
      if (oldest &&
          now >= std::max(*oldest, workerless_since_.value_or(*oldest)) + config_.worker_grace)
        refuse_all(*model,
                   {refusal_reason::no_worker,
                    "no worker has joined this node; start one "
                    "with `troupe serve --role worker --join HOST:PORT`",
                    std::chrono::seconds{10}},
                   now, out);
      continue;
    }
    const auto needed = model->takes.all();
    const auto largest = largest_space(all, model->takes.workspace_bytes);
    if (all.empty() || needed <= largest)
      continue;
    const bool pins = std::any_of(all.begin(), all.end(),
                                  [&](const worker_space& x) { return x.limit_bytes >= needed; });
    refuse_all(*model,
               {refusal_reason::too_large,
                "model " + model->spec.id.text + " needs " + mib(needed) +
                    ", more than any worker can give (" + mib(largest) +
                    (pins ? " beside pinned models); unpin one" : "); raise the memory limit") +
                    " or lower engine.kv_memory",
                std::chrono::seconds{60}},
               now, out);
  }
}

} // namespace troupe::policies
