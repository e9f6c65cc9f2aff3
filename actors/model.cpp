#include "actors/model.hpp"

#include <caf/all.hpp>

#include "actors/errors.hpp"
#include "policies/turns.hpp"

namespace troupe::actors {

namespace {

/// Reading a tokenizer takes a second or two at worst; more means that its disk hangs.
constexpr auto text_timeout = std::chrono::seconds{100};
/// With the files still at their origin; what fetches them gives up long before.
constexpr auto fetch_timeout = std::chrono::seconds{3600};
/// A large vocabulary is tens of MiB in memory.
constexpr size_t texts_max = 32;

void answer(model_actor::stateful_pointer<model_state> self,
            const caf::expected<model_text>& text) {
  for (auto& promise : std::exchange(self->state.waiting, {}))
    if (text)
      promise.deliver(*text);
    else
      promise.deliver(text.error());
  self->state.self_card->show(text ? "running" : "failed", text ? "" : describe(text.error()));
}

/// Drops the text sides that were used longest ago, beyond the limit.
void trim(const std::map<model_id, model_card_ptr>& cards) {
  std::vector<model_card*> held;
  std::vector<int64_t> last_used_us; // copied: requests go on while this decides
  for (const auto& [id, card] : cards)
    if (card->text.load()) {
      held.push_back(card.get());
      last_used_us.push_back(card->last_used_us);
    }
  for (const auto i : policies::beyond_recent(last_used_us, texts_max))
    held[i]->text.store(nullptr);
}

caf::expected<model_text> load_text(text_loader_setup& setup, model_card& card,
                                    const std::string& dir) {
  auto text = setup.load(card, dir);
  if (!text)
    return text;
  card.context_length = text->text->context_length();
  card.touch();
  card.text.store(std::make_shared<const model_text>(*text));
  trim(setup.cards);
  return text;
}

/// Asks for the small files of a model that is not here; they come back as `fetched`.
void fetch_text(text_loader_actor::stateful_pointer<text_loader_state> self,
                const model_card& card) {
  const auto me = caf::actor_cast<text_loader_actor>(self);
  fetch_events events;
  events.then = [me, id = card.source.id](caf::expected<fetched_files> files) {
    fetched_model out;
    out.order.model = id;
    if (files)
      out.files = std::move(*files);
    else
      out.why = std::move(files.error());
    caf::anon_send(me, atom::fetched_v, std::move(out));
  };
  self->state.setup.fetch(card.source.origin, card.source.id.text, false, std::move(events));
}

} // namespace

model_actor::behavior_type model(model_actor::stateful_pointer<model_state> self,
                                 model_card_ptr card, std::shared_ptr<const directory> where,
                                 actor_card_ptr self_card) {
  self->state.card = std::move(card);
  self->state.where = std::move(where);
  self->state.self_card = std::move(self_card);
  return {
      [self](atom::text) -> caf::result<model_text> {
        auto& state = self->state;
        state.self_card->handled();
        if (const auto text = state.card->text.load())
          return *text;
        auto promise = self->make_response_promise<model_text>();
        state.waiting.push_back(promise);
        if (state.waiting.size() > 1)
          return promise;
        state.self_card->show("loading", "tokenizer");
        const auto timeout = state.card->source.dir.empty() ? fetch_timeout : text_timeout;
        self->request(state.where->text_loader(), timeout, atom::text_v, state.card->source.id)
            .then([self](model_text& text) { answer(self, std::move(text)); },
                  [self](caf::error& why) { answer(self, std::move(why)); });
        return promise;
      },
  };
}

text_loader_actor::behavior_type
text_loader(text_loader_actor::stateful_pointer<text_loader_state> self, text_loader_setup setup) {
  self->state.setup = std::move(setup);
  return {
      [self](atom::text, const model_id& id) -> caf::result<model_text> {
        auto& setup = self->state.setup;
        setup.self_card->handled();
        const auto at = setup.cards.find(id);
        if (at == setup.cards.end())
          return no_such_model(id);
        auto& card = *at->second;
        if (!card.source.dir.empty())
          return load_text(setup, card, card.source.dir.string());
        auto promise = self->make_response_promise<model_text>();
        auto& waiting = self->state.waiting[id];
        waiting.push_back(promise);
        if (waiting.size() == 1)
          fetch_text(self, card);
        return promise;
      },
      [self](atom::fetched, const fetched_model& x) {
        auto& setup = self->state.setup;
        setup.self_card->handled();
        caf::expected<model_text> text{x.why};
        if (!x.why) {
          auto& card = *setup.cards.at(x.order.model);
          card.fetched_bytes = x.files.weight_bytes;
          text = load_text(setup, card, x.files.dir);
        }
        for (auto& promise : std::exchange(self->state.waiting[x.order.model], {}))
          if (text)
            promise.deliver(*text);
          else
            promise.deliver(text.error());
        self->state.waiting.erase(x.order.model);
      },
  };
}

} // namespace troupe::actors
