#pragma once
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/generation.hpp"
#include "actors/messages.hpp"
#include "actors/metrics.hpp"
#include "actors/model_card.hpp"
#include "actors/request_log.hpp"
#include "actors/watch_list.hpp"

/// A choice of a request:
///
///   queued --dispatch--> running --last token, stop string--> finished
///     ^                     |
///     `--- worker lost -----'   (next epoch, tokens so far)
namespace troupe::actors {

/// What an invocation is made of.
struct invocation_setup {
  invocation_request request;
  std::shared_ptr<reply_sink> sink;
  model_card_ptr card;
  model_actor model;
  scheduler_actor scheduler;
  caf::strong_actor_ptr gateway; ///< the invocation ends with it
  std::shared_ptr<metrics> meters;
  std::shared_ptr<request_log> log = std::make_shared<request_log>(0);
  actor_card_ptr self_card;
  uint64_t number = 0;     ///< of its sequences, unique in the cluster
  uint64_t drawn_seed = 0; ///< used if the client gave none
};

struct invocation_choice {
  enum class phase : uint8_t { queued, running, finished };
  phase at = phase::queued;
  size_t prompt = 0;
  uint64_t seed = 0;
  generation text;
  caf::strong_actor_ptr worker;
  instant last_token{};
};

struct invocation_state {
  static inline const char* name = "invocation";
  invocation_setup setup;
  std::shared_ptr<const model_text> model;
  std::vector<std::vector<engine::token_id>> prompts;
  engine::sampling_params sampling;
  std::vector<invocation_choice> choices;
  watch_list watched;
  size_t finished = 0;
  instant accepted{};
  request_timing timing;
  request_record record;
  usage used;
  bool dispatched = false, ended = false;
  model_metrics* meters = nullptr;
};

invocation_actor::behavior_type
invocation(invocation_actor::stateful_pointer<invocation_state> self, invocation_setup setup);

} // namespace troupe::actors
