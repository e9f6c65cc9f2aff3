#include "policies/dispatcher.hpp"

#include <algorithm>

namespace troupe::policies {

uint32_t resident::places() const {
  const auto held = static_cast<uint32_t>(assigned.size());
  const auto on_their_way = held > known ? held - known : 0;
  return room > on_their_way ? room - on_their_way : 0;
}

footprint dispatcher::worker_state::used() const {
  footprint out;
  for (const auto& [id, x] : residents)
    out += x.takes;
  return out;
}

void dispatcher::add_model(served_model model) {
  auto& state = models_[model.id];
  state.queue = fair_order{config_.fair};
  state.spec = std::move(model);
  if (state.spec.pinned)
    active_.insert(state.spec.id);
}

void dispatcher::worker_joined(worker_id worker, std::string name, uint64_t limit_bytes) {
  auto& state = workers_[worker];
  state.name = std::move(name);
  state.limit_bytes = limit_bytes;
  workerless_since_.reset();
}

void dispatcher::worker_holds(worker_id worker, const model_id& model, const footprint& takes,
                              uint32_t room, instant now) {
  const auto at = models_.find(model);
  if (at == models_.end() || !workers_.contains(worker))
    return;
  at->second.at.insert(worker);
  active_.insert(model);
  auto& x = workers_[worker].residents[model];
  x.state = residence::ready;
  x.takes = takes;
  x.room = room;
  x.ready_since = x.last_used = now;
  x.keep_alive = keep_alive_of(at->second);
}

void dispatcher::worker_leaving(worker_id worker) {
  if (const auto at = workers_.find(worker); at != workers_.end())
    at->second.leaving = true;
}

void dispatcher::worker_lost(worker_id worker, instant now) {
  const auto at = workers_.find(worker);
  if (at == workers_.end())
    return;
  for (const auto& [id, x] : at->second.residents) {
    auto& model = models_[id];
    model.at.erase(worker);
    for (const auto& [sequence, epoch] : x.assigned) {
      model.queue.finish(sequence);
      holds_.end(sequence, now, now);
    }
    if (model.at.empty())
      holds_.unloaded(id, now);
  }
  workers_.erase(at);
  if (workers_.empty())
    workerless_since_ = now;
}

std::optional<refusal> dispatcher::enqueue(const model_id& id,
                                           const std::vector<waiting_sequence>& sequences,
                                           const footprint& takes,
                                           std::optional<duration> keep_alive, instant now,
                                           const tenant_caps& caps) {
  auto& model = models_.at(id);
  size_t fresh = 0;
  for (const auto& x : sequences)
    fresh += !x.resumed;
  if (!model.error.empty() && model.at.empty() && now < model.retry_at && fresh > 0)
    return refusal{model.files_broken ? refusal_reason::files_broken : refusal_reason::load_failed,
                   model.error, model.retry_at - now};
  // A request of more choices than the queue has places is still served when it is alone.
  if (fresh > 0 && model.queue.size() > 0 && model.queue.size() + fresh > config_.queue_max) {
    const auto waited = now - model.queue.oldest().value_or(now);
    return refusal{refusal_reason::queue_full,
                   "model " + id.text + " has " + std::to_string(model.queue.size()) +
                       " waiting requests, the most that may wait; try again later",
                   std::clamp<duration>(waited, std::chrono::seconds{1}, std::chrono::seconds{60})};
  }
  if (takes.own_bytes != 0)
    model.takes = takes;
  if (fresh > 0 && caps.any())
    if (auto why = ask_tenant(model, sequences.front(), fresh, caps, now))
      return why;
  for (const auto& x : sequences) {
    // It may be that its loss is not known here yet.
    for (const auto worker : model.at)
      if (auto* place = find(worker, id))
        place->assigned.erase(x.id);
    model.queue.push(x);
    holds_.begin(x.id, x.tenant.id, id, now,
                 x.input_tokens - std::min(x.input_tokens, x.cached_tokens));
  }
  if (fresh > 0)
    note_arrival(model, now);
  model.keep_alive = keep_alive;
  active_.insert(id);
  return std::nullopt;
}

void dispatcher::withdraw(const model_id& id, sequence_id sequence, instant now) {
  const auto at = models_.find(id);
  if (at == models_.end())
    return;
  holds_.end(sequence, now, held_until(at->second, now));
  if (at->second.queue.erase(sequence))
    return;
  for (const auto worker : at->second.at)
    if (auto* x = find(worker, id); x && x->assigned.erase(sequence)) {
      x->last_used = now;
      at->second.queue.finish(sequence);
    }
}

void dispatcher::retired(worker_id worker, const model_id& model, sequence_id id, uint32_t epoch,
                         instant now) {
  auto* x = find(worker, model);
  if (!x)
    return;
  const auto at = x->assigned.find(id);
  if (at != x->assigned.end() && at->second == epoch) {
    x->assigned.erase(at);
    x->last_used = now;
    models_.at(model).queue.finish(id);
    holds_.end(id, now, held_until(models_.at(model), now));
  }
}

void dispatcher::charge(worker_id worker, const model_id& id, sequence_id sequence, uint32_t epoch,
                        uint32_t tokens, uint32_t reused) {
  const auto* x = find(worker, id);
  if (!x)
    return;
  const auto at = x->assigned.find(sequence);
  if (at == x->assigned.end() || at->second != epoch)
    return; // it was given to somebody else since
  auto& model = models_.at(id);
  if (tokens > 0)
    holds_.answered(sequence);
  model.queue.charge(sequence, tokens, reused);
  share_services(model);
}

/// Tenants that also wait for other models have been served there just as well.
void dispatcher::share_services(model_state& from) {
  const auto services = from.queue.take_services();
  for (const auto& id : active_) {
    auto& other = models_.at(id);
    if (&other == &from || other.queue.size() == 0)
      continue;
    for (const auto& x : services)
      other.queue.served_elsewhere(x, config_.debt_elsewhere_max);
  }
}

std::vector<pair_drift> dispatcher::drifts(const model_id& model) const {
  return models_.at(model).queue.drifts();
}

void dispatcher::room(worker_id worker, const model_id& model, uint32_t room, uint32_t known,
                      instant now) {
  auto* x = find(worker, model);
  if (!x)
    return;
  if (x->known != 0 && known == 0)
    x->last_used = now;
  x->room = room;
  x->known = known;
}

void dispatcher::let_in(resident& x, model_state& model, const footprint& takes, uint32_t room,
                        instant now) {
  x.takes = model.takes = takes;
  x.room = room;
  x.ready_since = x.last_used = now;
  x.keep_alive = keep_alive_of(model);
}

void dispatcher::takes_requests(worker_id worker, const model_id& id, const footprint& takes,
                                uint32_t room, instant now) {
  auto* x = find_or_adopt(worker, id, takes, room, now);
  if (!x)
    return;
  let_in(*x, models_.at(id), takes, room, now);
  x->state = residence::coming;
}

void dispatcher::loaded(worker_id worker, const model_id& id, const footprint& takes, uint32_t room,
                        instant now, uint32_t known) {
  auto* x = find_or_adopt(worker, id, takes, room, now);
  if (!x)
    return;
  auto& model = models_.at(id);
  let_in(*x, model, takes, room, now);
  x->state = residence::ready;
  x->known = known;
  model.wanted = false;
  model.error.clear();
  model.failures = 0;
}

void dispatcher::load_failed(worker_id worker, const model_id& id, std::string why,
                             bool files_broken, instant now) {
  const auto* x = find(worker, id);
  if (!x)
    return;
  auto& model = models_.at(id);
  const auto handed = x->assigned;
  drop(worker, id, now);
  auto pause = config_.load_pause_first;
  for (uint32_t i = 0; i < model.failures && pause < config_.load_pause_max; ++i)
    pause *= 2;
  ++model.failures;
  pause = std::min(pause, config_.load_pause_max);
  model.error = std::move(why);
  model.files_broken = files_broken;
  model.retry_at = now + pause;
  const refusal answer{files_broken ? refusal_reason::files_broken : refusal_reason::load_failed,
                       model.error, pause};
  for (const auto& [sequence, epoch] : handed) {
    model.queue.finish(sequence);
    holds_.end(sequence, now, held_until(model, now));
    pending_.emplace_back(refuse_intent{sequence, epoch, id, answer});
  }
  refuse_all(model, answer, now, pending_);
}

void dispatcher::unloaded(worker_id worker, const model_id& model, instant now) {
  drop(worker, model, now);
}

void dispatcher::want(const model_id& id, const footprint& takes, std::optional<bool> pin,
                      instant now) {
  auto& model = models_.at(id);
  if (takes.own_bytes != 0)
    model.takes = takes;
  if (pin)
    model.spec.pinned = *pin;
  for (const auto worker : model.at)
    find(worker, id)->dismissed = false;
  model.wanted = cold(id);
  model.wanted_since = now;
  active_.insert(id);
}

void dispatcher::dismiss(const model_id& id) {
  auto& model = models_.at(id);
  model.spec.pinned = false;
  model.wanted = false;
  for (const auto worker : model.at)
    find(worker, id)->dismissed = true;
}

bool dispatcher::cold(const model_id& id) const { return copies(id, residence::ready).empty(); }

bool dispatcher::coming(const model_id& id) const { return !copies(id, residence::coming).empty(); }

std::vector<waiting_sequence> dispatcher::waiting(const model_id& model) const {
  return models_.at(model).queue.list();
}

size_t dispatcher::ahead_of(const model_id& model, const fair_share& tenant, size_t count) const {
  const auto at = models_.find(model);
  return at == models_.end() ? 0 : at->second.queue.ahead_of(tenant, count);
}

bool dispatcher::holds(const model_id& id, sequence_id sequence) const {
  const auto at = models_.find(id);
  if (at == models_.end())
    return false;
  const auto& model = at->second;
  return model.queue.contains(sequence) ||
         std::any_of(model.at.begin(), model.at.end(), [&](worker_id worker) {
           return workers_.at(worker).residents.at(id).assigned.contains(sequence);
         });
}

std::vector<handed_sequence> dispatcher::handed_to(worker_id worker) const {
  std::vector<handed_sequence> out;
  if (const auto at = workers_.find(worker); at != workers_.end())
    for (const auto& [model, x] : at->second.residents)
      for (const auto& [id, epoch] : x.assigned)
        out.push_back({model, id, epoch});
  return out;
}

model_view dispatcher::view(const model_id& id) const {
  const auto& model = models_.at(id);
  model_view out;
  int best_rank = 0;
  out.queued = model.queue.size();
  out.pinned = model.spec.pinned;
  out.error = model.error;
  for (const auto worker : model.at) {
    const auto& x = workers_.at(worker).residents.at(id);
    out.running += x.assigned.size();
    // Of several copies the one that gets the next sequence.
    const auto rank = (x.state == residence::ready     ? 4
                       : x.state == residence::coming  ? 3
                       : x.state == residence::loading ? 2
                                                       : 1) -
                      (workers_.at(worker).leaving ? 4 : 0);
    if (out.best && best_rank >= rank)
      continue;
    best_rank = rank;
    out.best = &x;
    out.worker = worker;
    out.unload_at = overdue_at(model, x);
  }
  return out;
}

std::vector<worker_id> dispatcher::copies(const model_id& id, residence state) const {
  std::vector<worker_id> out;
  for (const auto worker : models_.at(id).at)
    if (workers_.at(worker).residents.at(id).state == state)
      out.push_back(worker);
  return out;
}

resident* dispatcher::find(worker_id worker, const model_id& model) {
  const auto at = workers_.find(worker);
  if (at == workers_.end())
    return nullptr;
  const auto found = at->second.residents.find(model);
  return found == at->second.residents.end() ? nullptr : &found->second;
}

resident* dispatcher::find_or_adopt(worker_id worker, const model_id& model, const footprint& takes,
                                    uint32_t room, instant now) {
  if (!find(worker, model))
    worker_holds(worker, model, takes, room, now);
  return find(worker, model);
}

std::optional<instant> dispatcher::overdue_at(const model_state& model, const resident& x) const {
  if (x.state != residence::ready || !x.idle() || model.spec.pinned || model.queue.size() > 0 ||
      x.keep_alive < duration{0})
    return std::nullopt;
  // Somebody loaded it on purpose: that must not be undone before it was used once.
  const auto keep =
      x.used ? x.keep_alive : std::max<duration>(x.keep_alive, std::chrono::seconds{30});
  return x.last_used + keep;
}

void dispatcher::drop(worker_id worker, const model_id& model, instant now) {
  if (const auto at = workers_.find(worker); at != workers_.end())
    at->second.residents.erase(model);
  const auto at = models_.find(model);
  if (at == models_.end())
    return;
  at->second.at.erase(worker);
  if (at->second.at.empty())
    holds_.unloaded(model, now);
}

} // namespace troupe::policies
