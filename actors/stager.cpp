#include "actors/stager.hpp"

#include <filesystem>

#include <caf/all.hpp>

#include "actors/peer_plane.hpp"
#include "storage/checkpoint.hpp"
#include "storage/pipeline/tier_probe.hpp"
#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::actors {

namespace {

using pointer = stager_actor::stateful_pointer<stager_state>;

/// What a load of the model would bring after others have come, as far as can be said.
load_account account_of(pointer self, const load_order& order, double coming_bytes) {
  auto& setup = self->state.setup;
  load_account out;
  out.model = order.model;
  auto dir = order.dir;
  if (dir.empty() && setup.find)
    dir = setup.find(order.origin, order.model.text);
  if (!dir.empty())
    if (const auto bytes = setup.look(order, dir, static_cast<uint64_t>(coming_bytes))) {
      out.bytes = *bytes;
      return out;
    }
  const auto set = [&](policies::load_tier tier) {
    out.bytes[static_cast<size_t>(tier)] = static_cast<double>(order.weight_bytes);
  };
  std::error_code ignored;
  if (!order.holders.empty() && !dir.empty() && !std::filesystem::exists(dir, ignored)) {
    out.source = peer_link;
    set(policies::load_tier::remote);
  } else if (!order.origin.empty() && order.dir.empty()) {
    out.source = link_of(order.origin);
    set(policies::load_tier::remote);
    set(policies::load_tier::cached); // where the download leaves them
  } else {
    set(policies::load_tier::disk);
  }
  return out;
}

/// Nothing is fetched from the network ahead of time: only what lies on a disk here.
void prefetch(pointer self, const load_order& order, double rate) {
  auto& state = self->state;
  std::erase_if(state.staged, [](const auto& entry) { return entry.second->is_over(); });
  auto dir = order.dir;
  if (dir.empty() && state.setup.find)
    dir = state.setup.find(order.origin, order.model.text);
  if (dir.empty() || !state.setup.prefetch || state.staged.contains(order.model))
    return;
  if (auto staged = state.setup.prefetch(dir, rate))
    state.staged.emplace(order.model, std::move(staged));
}

} // namespace

stager_actor::behavior_type stager(pointer self, stager_setup setup) {
  self->state.setup = std::move(setup);
  const auto count = [self] { self->state.setup.self_card->handled(); };
  return {
      [=](atom::survey, const load_order& order) {
        count();
        auto& state = self->state;
        const auto worker = caf::actor_cast<gpu_worker_actor>(self->current_sender());
        auto& book = *state.setup.book;
        const auto now = self->clock().now();
        auto account = account_of(self, order, book.coming_bytes(worker.id(), order.model, now));
        self->send(worker, atom::forecast_v,
                   book.forecast(worker.id(), std::move(account), self->clock().now()));
      },
      [=](atom::prefetch, const load_order& order, double rate) {
        count();
        prefetch(self, order, rate);
      },
      [=](atom::spare, const model_ref& x) {
        count();
        self->state.staged.erase(x.model);
      },
      [=](atom::probe, const std::string& dir) {
        count();
        auto& state = self->state;
        if (!std::exchange(state.probed, true) && state.setup.probe)
          state.setup.probe(*state.setup.book, dir);
      },
  };
}

std::function<void(load_book&, const std::string& dir)>
make_probe(std::shared_ptr<storage::weight_tiers> tiers) {
  return [tiers = std::move(tiers)](load_book& book, const std::string& dir) {
    if (!tiers)
      return;
    const auto files = storage::checkpoint::open(dir);
    if (!files || (*files)->files().empty())
      return;
    const auto rates = storage::probe_tiers(tiers->reader(), (*files)->files().front().path());
    book.probe(policies::load_tier::disk, rates.disk);
    // Through the page cache it is read by two threads that touch its pages: about half as fast.
    book.probe(policies::load_tier::paged, rates.disk / 2);
    book.probe(policies::load_tier::pool, rates.memory);
    book.probe(policies::load_tier::cached, rates.memory);
  };
}

} // namespace troupe::actors
