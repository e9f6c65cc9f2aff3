#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/load_book.hpp"
#include "actors/messages.hpp"
#include "actors/model_fetch.hpp"

namespace troupe::actors {

struct checkpoint_loader_setup {
  /// Opens a model and brings its weights into memory; blocks for as long as that takes, or, with
  /// `opened_model::follow`, until it has begun.
  std::function<opened_model(const load_order&, const open_progress&)> open;
  /// Brings a model to this machine; does not block, so that others are opened meanwhile.
  model_fetch fetch;
  /// Adds to a fetch what other nodes have to do with it; empty = there are none.
  std::function<void(const load_order&, fetch_events&)> share{};
  /// Hears of a model that was fetched whole.
  std::function<void(const load_order&, const std::string& dir)> offer{};
  /// Makes damaged files of a fetched model what they were; does not block.
  model_mend mend{};
  /// Hears of every load.
  std::shared_ptr<load_book> book = std::make_shared<load_book>();
  /// Set by anyone to make a load in progress give up.
  std::shared_ptr<const std::atomic<bool>> stop;
  actor_card_ptr self_card;
};

struct checkpoint_loader_state {
  static inline const char* name = "checkpoint-loader";
  /// A model that was opened before all of it was here.
  struct early_load {
    caf::actor_id worker = 0;
    load_order order;
    std::function<void(const open_progress&)> follow;
  };
  checkpoint_loader_setup setup;
  std::vector<early_load> early;
};

/// Loads one model after the other, as they share a disk; those that are still at their origin are
/// fetched meanwhile, and opened as soon as enough of them is here. To be spawned detached.
checkpoint_loader_actor::behavior_type
checkpoint_loader(checkpoint_loader_actor::stateful_pointer<checkpoint_loader_state> self,
                  checkpoint_loader_setup setup);

} // namespace troupe::actors
