#include "actors/load_groups.hpp"

#include <algorithm>

namespace troupe::actors {

void add_peers(scheduler_pointer self, const policies::load_intent& x,
               const std::vector<policies::intent>& all, load_order& order) {
  auto& state = self->state;
  // What has an origin is fetched from there, and from workers that have done so or do so.
  const bool fetched = order.dir.empty();
  if (!fetched && !state.setup.data_address.empty())
    order.holders.push_back(state.setup.data_address);
  const auto add = [&](policies::worker_id worker, std::vector<std::string>& to) {
    const auto& address = state.workers.at(worker).hello.data_address;
    // Several devices of one node share its address.
    if (!address.empty() && std::ranges::find(to, address) == to.end())
      to.push_back(address);
  };
  const auto& own = state.workers.at(x.worker).hello.data_address;
  using policies::residence;
  for (const auto worker : state.policy.copies(x.model, residence::ready))
    if (state.workers.at(worker).hello.data_address != own)
      add(worker, order.holders);
  for (const auto& one : all)
    if (const auto* load = std::get_if<policies::load_intent>(&one);
        load != nullptr && load->model == x.model)
      add(load->worker, order.together);
  std::vector<std::string> earlier;
  for (const auto how : {residence::loading, residence::coming})
    for (const auto worker : state.policy.copies(x.model, how)) {
      const auto& address = state.workers.at(worker).hello.data_address;
      if (address != own && std::ranges::find(order.together, address) == order.together.end())
        add(worker, earlier);
    }
  const bool alone = order.together.size() < 2;
  if (alone && !earlier.empty()) {
    order.together = std::move(earlier);
    return;
  }
  order.holders.insert(order.holders.end(), earlier.begin(), earlier.end());
  const auto at = std::ranges::find(order.together, own);
  order.place = own.empty() ? 0 : static_cast<uint32_t>(at - order.together.begin()) + 1;
}

} // namespace troupe::actors
