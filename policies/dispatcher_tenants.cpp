// What the dispatcher asks about a request's tenant before it lets it wait.
#include <algorithm>

#include "policies/dispatcher.hpp"

namespace troupe::policies {

std::optional<refusal> dispatcher::ask_tenant(const model_state& model,
                                              const waiting_sequence& first, size_t count,
                                              const tenant_caps& caps, instant now) {
  bool on_its_way = model.queue.size() > 0 || model.wanted || model.spec.pinned;
  size_t places = 0;
  for (const auto worker : model.at) {
    const auto& state = workers_.at(worker);
    const auto& x = state.residents.at(model.spec.id);
    if (state.leaving || x.state == residence::leaving)
      continue;
    on_its_way = true;
    if (x.state == residence::ready && !x.dismissed)
      places += x.places();
  }
  const auto facts = [this](const model_id& id) {
    const auto& held = models_.at(id);
    return tenant_holds::model_facts{
        held.takes.own_bytes, held.spec.pinned, std::ranges::any_of(held.at, [&](worker_id worker) {
          const auto state = workers_.at(worker).residents.at(id).state;
          return state == residence::reserved || state == residence::loading;
        })};
  };
  auto verdict = holds_.admit({.tenant = first.tenant.id,
                               .name = first.tenant_name,
                               .caps = caps,
                               .model = model.spec.id,
                               .at_once = places >= model.queue.size() + count,
                               .cold = !on_its_way},
                              facts, now);
  for (const auto& id : verdict.released)
    let_go(id);
  if (!verdict.over)
    return std::nullopt;
  refusal why{refusal_reason::tenant_cap, std::move(verdict.over->message),
              verdict.over->retry_after.value_or(duration{0}), verdict.over->limit};
  if (caps.enforce)
    return why;
  pending_.push_back(watched_intent{first.id, first.epoch, model.spec.id, std::move(why)});
  return std::nullopt;
}

/// Nobody holds it any more: it need not wait for its keep-alive to end.
void dispatcher::let_go(const model_id& id) {
  for (const auto worker : models_.at(id).at) {
    auto& x = *find(worker, id);
    if (x.state != residence::ready)
      continue;
    if (x.idle())
      send_away(worker, id, unload_reason::tenant_cap, pending_);
    else
      x.dismissed = true; // what was cancelled there has to end first
  }
}

/// How long who has used it just now holds it.
instant dispatcher::held_until(const model_state& model, instant now) const {
  if (model.at.empty())
    return now;
  const auto keep = keep_alive_of(model);
  return keep < duration{0} || keep > instant::max() - now ? instant::max() : now + keep;
}

namespace {

/// Places of a resident, those taken included.
size_t all_places(const resident& x) {
  return x.places() + std::max<size_t>(x.assigned.size(), x.known);
}

/// Of so many places, those that are kept for who comes back.
size_t kept_places(size_t all, uint32_t per_kept) {
  return all < 4 ? 0 : std::max<size_t>(1, all / per_kept);
}

} // namespace

/// Whether a tenant may take one of the places that are free there.
bool dispatcher::may_take(const model_state& model, const resident& from, const fair_share& tenant,
                          instant now) const {
  if (config_.places_per_kept == 0)
    return true;
  const auto free = from.places();
  const auto kept = kept_places(all_places(from), config_.places_per_kept);
  const auto& id = model.spec.id;
  if (holds_.holders(id, now) < 2 || holds_.running(tenant.id, id) < kept)
    return true;
  return free > kept && holds_.prompt_tokens(tenant.id, id) < config_.prompt_tokens_ahead;
}

/// Whether the prompt of a tenant whose turn it is goes before all others. It does not among
/// tenants who all run about as much, however little that is.
bool dispatcher::is_urgent(const model_state& model, const resident& at,
                           const fair_share& tenant) const {
  if (config_.places_per_kept == 0)
    return false;
  const auto kept = kept_places(all_places(at), config_.places_per_kept);
  return holds_.running(tenant.id, model.spec.id) < kept &&
         holds_.most_running(model.spec.id) > 2 * kept;
}

} // namespace troupe::policies
