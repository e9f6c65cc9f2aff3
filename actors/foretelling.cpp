#include "actors/foretelling.hpp"

#include <array>

#include <caf/all.hpp>

#include "actors/peer_plane.hpp"

namespace troupe::actors {

namespace {

invocation_actor invocation_of(const caf::strong_actor_ptr& owner) {
  return caf::actor_cast<invocation_actor>(owner);
}

} // namespace

void foretell(scheduler_pointer self, const sequence_id& id, size_t ahead) {
  auto& state = self->state;
  const auto at = state.owners.find(id);
  if (at == state.owners.end() || at->second.is_foretold || id.choice != 0)
    return;
  auto& owner = at->second;
  const auto& card = *state.models.at(owner.model).card;
  auto forecast = state.ahead.of({.model = owner.model,
                                  .weight_bytes = static_cast<double>(card.weight_bytes()),
                                  .prompt_tokens = owner.prompt_tokens,
                                  .accepted = owner.accepted,
                                  .ahead = ahead},
                                 state.policy.view(owner.model), self->clock().now());
  if (!forecast)
    return;
  owner.is_foretold = true;
  self->send(invocation_of(owner.invocation), atom::forecast_v, std::move(*forecast));
}

void foretell_waiting(scheduler_pointer self, const model_id& id) {
  size_t ahead = 0;
  for (const auto& x : self->state.policy.waiting(id))
    foretell(self, x.id, ahead++);
}

void note_forecast(scheduler_pointer self, policies::worker_id worker,
                   const load_account& account) {
  auto& state = self->state;
  state.policy.note_load_cost(worker, account.model,
                              account.seconds.total - account.seconds.queued);
  if (state.ahead.load_expected(account))
    foretell_waiting(self, account.model);
}

load_order order_of(const model_card& card) {
  return {card.source.id, card.source.dir.string(), card.options,
          card.draft_dir, card.source.origin,       card.weight_bytes()};
}

void survey(scheduler_pointer self, policies::worker_id worker, const model_id& model) {
  auto& state = self->state;
  if (const auto at = state.workers.find(worker); at != state.workers.end())
    self->send(at->second.handle, atom::survey_v, order_of(*state.models.at(model).card));
}

void note_receipt(scheduler_pointer self, const load_account& account) {
  constexpr std::array<const char*, policies::load_tier_count> names{"remote", "disk",   "pool",
                                                                     "paged",  "cached", "device"};
  for (size_t i = 0; i < names.size(); ++i)
    self->state.setup.meters->came_from(i == 0 && account.source == peer_link ? "peer" : names[i],
                                        account.bytes[i]);
  for (const auto& [id, owner] : self->state.owners)
    if (owner.model == account.model && id.choice == 0)
      self->send(invocation_of(owner.invocation), atom::receipt_v, account);
  self->state.setup.log->add_load(account.model, {account.bytes, account.seconds, account.source});
}

} // namespace troupe::actors
