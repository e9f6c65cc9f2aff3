#pragma once
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "actors/directory.hpp"
#include "actors/messages.hpp"
#include "actors/model_card.hpp"
#include "actors/model_fetch.hpp"

namespace troupe::actors {

struct model_state {
  static inline const char* name = "model";
  model_card_ptr card;
  std::shared_ptr<const directory> where;
  actor_card_ptr self_card;
  std::vector<caf::typed_response_promise<model_text>> waiting; ///< for a load that is under way
};

/// One per deployed model, however many there are: it holds next to nothing until it is asked.
model_actor::behavior_type model(model_actor::stateful_pointer<model_state> self,
                                 model_card_ptr card, std::shared_ptr<const directory> where,
                                 actor_card_ptr self_card);

struct text_loader_setup {
  /// Reads tokenizer, template and configuration; blocks.
  std::function<caf::expected<model_text>(const model_card&, const std::string& dir)> load;
  /// Brings the files that `load` needs to this machine; does not block.
  model_fetch fetch;
  std::map<model_id, model_card_ptr> cards;
  actor_card_ptr self_card;
};

struct text_loader_state {
  static inline const char* name = "text-loader";
  text_loader_setup setup;
  /// For models whose files are on their way.
  std::map<model_id, std::vector<caf::typed_response_promise<model_text>>> waiting;
};

/// To be spawned detached. Keeps the text sides of the models used last in their cards, up to a
/// limit.
text_loader_actor::behavior_type
text_loader(text_loader_actor::stateful_pointer<text_loader_state> self, text_loader_setup setup);

} // namespace troupe::actors
