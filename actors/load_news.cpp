#include "actors/load_news.hpp"

#include <set>

#include <caf/all.hpp>

namespace troupe::actors {

void tell_waiting(scheduler_actor::stateful_pointer<scheduler_state> self, const model_id& id) {
  auto& state = self->state;
  const auto& model = state.models.at(id);
  std::set<caf::actor_addr> told; // several choices of one request
  const auto tell = [&](const scheduler_state::owner& x) {
    if (told.insert(x.invocation->address()).second)
      self->send(caf::actor_cast<invocation_actor>(x.invocation), atom::progress_v, model.progress);
  };
  for (const auto& x : state.policy.waiting(id))
    if (const auto at = state.owners.find(x.id); at != state.owners.end())
      tell(at->second);
  const bool is_under_way =
      model.progress.phase == "loading" || model.progress.phase == "downloading";
  if (!state.policy.coming(id) || !is_under_way)
    return;
  for (const auto& [sequence, x] : state.owners)
    if (x.model == id)
      tell(x);
}

} // namespace troupe::actors
