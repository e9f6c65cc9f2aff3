#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caf/actor_control_block.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/atom.hpp>
#include <caf/replies_to.hpp>
#include <caf/type_id.hpp>
#include <caf/typed_actor.hpp>

#include "actors/actor_card.hpp"
#include "actors/cluster_types.hpp"
#include "actors/request_record.hpp"
#include "actors/text_side.hpp"
#include "base/ids.hpp"
#include "engine/model/model_config.hpp"
#include "policies/footprint.hpp"
#include "policies/prefill_cost.hpp"
#include "policies/queue_order.hpp"
#include "policies/quota.hpp"

/// Every message of this module. Those that cross nodes encode as Cap'n Proto inside `inspect`;
/// the others are plain structs that are moved.
namespace troupe::actors {

template <class Inspector, class T>
typename Inspector::result_type inspect_as_bytes(Inspector& f, T& x) {
  if constexpr (Inspector::reads_state) {
    auto bytes = wire::encode(x);
    return f(bytes);
  } else {
    std::string bytes;
    if (auto why = f(bytes))
      return why;
    return wire::decode(bytes, x);
  }
}

#define TROUPE_CROSSES_NODES(type)                                                                 \
  template <class Inspector>                                                                       \
  typename Inspector::result_type inspect(Inspector& f, type& x) {                                 \
    return inspect_as_bytes(f, x);                                                                 \
  }
TROUPE_CROSSES_NODES(sequence_ref)
TROUPE_CROSSES_NODES(run_order)
TROUPE_CROSSES_NODES(token_batch)
TROUPE_CROSSES_NODES(sequence_loss)
TROUPE_CROSSES_NODES(worker_hello)
TROUPE_CROSSES_NODES(worker_report)
TROUPE_CROSSES_NODES(load_order)
TROUPE_CROSSES_NODES(model_ref)
TROUPE_CROSSES_NODES(load_progress)
TROUPE_CROSSES_NODES(load_outcome)
TROUPE_CROSSES_NODES(load_account)
TROUPE_CROSSES_NODES(actor_list)
#undef TROUPE_CROSSES_NODES

// Within the process.

/// Called with bytes done and in all; returns false to stop.
using open_progress = std::function<bool(uint64_t done, uint64_t total)>;

/// A model's text side, once loaded, and what its engine would take beside KV memory.
struct model_text {
  std::shared_ptr<const text_side> text;
  std::shared_ptr<const engine::frontend> frontend;
  policies::footprint takes;
};

/// All sequences of one request; the sender is their invocation.
struct enqueue_order {
  model_id model;
  std::vector<policies::waiting_sequence> sequences;
  policies::footprint takes;
  std::optional<duration> keep_alive;
  policies::tenant_caps caps{};
  /// Resumed: the worker that vanished under these sequences. The scheduler may not have heard of
  /// it yet, and would hand them to the dead worker again.
  caf::strong_actor_ptr lost_worker;
};

/// The scheduler to an invocation: send this sequence to that worker.
struct dispatch_order {
  sequence_id id;
  uint32_t epoch = 0;
  caf::strong_actor_ptr worker;
  std::string worker_name{}; ///< for people: "cpu@node"
  bool urgent = false;       ///< see policies::dispatch_intent
};

/// A first token came: what it took since the first step that held its sequence.
struct prefill_note {
  model_id model;
  policies::prompt_work work;
  double seconds = 0;
};

struct refusal_notice {
  sequence_id id;
  uint32_t epoch = 0;
  failure why;
  bool enforced = true; ///< false: it goes on, and is only told
};

struct load_wish {
  model_id model;
  std::optional<bool> pin;
  policies::footprint takes;
};

struct status_list {
  std::vector<model_status> models;
  std::vector<device_status> devices;
};

/// A checkpoint whose weights are in memory, or about to be.
struct opened_model {
  load_order order;
  std::shared_ptr<const engine::model_config> config;
  engine::weight_lookup lookup; ///< none = another device has the weights
  std::string checkpoint;       ///< what names them among devices; see `engine::engine::create`
  std::shared_ptr<const void> keep_alive;
  std::shared_ptr<const engine::draft_source> draft; ///< or none
  /// Set if weights are still on their way, with an engine that is made now waiting for them:
  /// follows them, on the loader's thread, until all have come or none will.
  std::function<void(const open_progress&)> follow;
  uint64_t weight_bytes = 0;
  /// Where the bytes came from, once all have come.
  std::function<policies::tier_bytes()> whence{};
  caf::error why; ///< if it could not be opened
};

/// Files that were fetched from a model's origin.
struct fetched_files {
  std::string dir;
  uint64_t weight_bytes = 0;  ///< of the whole model
  uint64_t fetched_bytes = 0; ///< over the network: the rest was here
};

/// A fetch has ended, for `order`; or, with `order.arriving` set, it has come far enough for the
/// model to be opened.
struct fetched_model {
  load_order order;
  caf::strong_actor_ptr worker; ///< that wants it; null = the text side alone was wanted
  fetched_files files;
  caf::error why; ///< if it failed
  instant began{};
};

struct enrolment {
  caf::strong_actor_ptr who;
  actor_card_ptr card;
};

/// The gateway learns of a request that begins.
struct admission {
  caf::strong_actor_ptr invocation;
  instant deadline{};
};

} // namespace troupe::actors

CAF_BEGIN_TYPE_ID_BLOCK(troupe_actors, caf::first_custom_type_id) // append only
CAF_ADD_TYPE_ID(troupe_actors, (troupe::model_id))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::sequence_id))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::sequence_ref))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::run_order))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::token_batch))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::sequence_loss))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::worker_hello))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::worker_report))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::load_order))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::model_ref))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::load_progress))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::load_outcome))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::actor_list))
CAF_ADD_TYPE_ID(troupe_actors, (troupe::actors::load_account))

CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, admit, "admit")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, begin, "begin")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, bound, "bound")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, cancel, "cancel")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, dial, "dial")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, dispatch, "dispatch")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, drain, "drain")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, enlist, "enlist")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, enqueue, "enqueue")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, enrol, "enrol")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, expire, "expire")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, fetched, "fetched")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, list, "list")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, load, "load")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, loaded, "loaded")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, lost, "lost")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, opened, "opened")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, progress, "progress")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, refuse, "refuse")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, report, "report")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, restart, "restart")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, run, "run")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, status, "status")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, step, "step")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, sweep, "sweep")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, text, "text")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, tokens, "tokens")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, unload, "unload")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, unloaded, "unloaded")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, withdraw, "withdraw")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, forecast, "forecast")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, prefetch, "prefetch")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, prefill, "prefill")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, probe, "probe")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, receipt, "receipt")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, spare, "spare")
CAF_ADD_ATOM(troupe_actors, troupe::actors::atom, survey, "survey")
CAF_END_TYPE_ID_BLOCK(troupe_actors)

// These hold pointers into this process, or are only ever exchanged within it.
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::model_text)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::enqueue_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::dispatch_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::refusal_notice)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::load_wish)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::model_status)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::status_list)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::opened_model)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::fetched_model)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::enrolment)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::admission)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::prefill_note)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::request_forecast)

namespace troupe::actors {

// The interfaces of all actors in one place: they name each other.

/// Gets the tokens of one request. The part that workers see, also from other nodes.
using token_sink_actor = caf::typed_actor<
    // Tokens of one step; those of an earlier dispatch are dropped.
    caf::reacts_to<atom::tokens, token_batch>,
    // A sequence gets no more tokens from that worker.
    caf::reacts_to<atom::lost, sequence_loss>>;

/// Owns one request from acceptance to its last token.
using invocation_actor = token_sink_actor::extend<
    // INTERNAL: the first message, sent by its maker.
    caf::reacts_to<atom::begin>,
    // A worker has room for this sequence.
    caf::reacts_to<atom::dispatch, dispatch_order>,
    // A sequence cannot be run.
    caf::reacts_to<atom::refuse, refusal_notice>,
    // How far the model's load is.
    caf::reacts_to<atom::progress, load_progress>,
    // What it will go through, as far as can be said now.
    caf::reacts_to<atom::forecast, request_forecast>,
    // What the load that it waited for took; again once the last byte was there.
    caf::reacts_to<atom::receipt, load_account>,
    // The client went away.
    caf::reacts_to<atom::cancel>,
    // The request's time is up.
    caf::reacts_to<atom::expire>>;

/// Runs models on one device. The part that the head of a cluster sees.
using worker_actor = caf::typed_actor<
    // Loads a model; answered by `progress` and `loaded` to the scheduler.
    caf::reacts_to<atom::load, load_order>,
    // Frees a model once nothing runs on it; answered by `unloaded`.
    caf::reacts_to<atom::unload, model_ref>,
    // Runs a sequence for the sender, a token_sink_actor.
    caf::reacts_to<atom::run, run_order>,
    // Stops a sequence within one step.
    caf::reacts_to<atom::cancel, sequence_ref>,
    // Says by `forecast`, to the scheduler, what loading a model would take now.
    caf::reacts_to<atom::survey, load_order>,
    // Brings the weights of a model nearer that is asked for so often a second, as it seems, while
    // nobody needs the way; `spare` stops that.
    caf::reacts_to<atom::prefetch, load_order, double>, caf::reacts_to<atom::spare, model_ref>,
    // The actors of the worker's node.
    caf::replies_to<atom::list>::with<actor_list>>;

/// What workers see of the scheduler, also from other nodes.
using cluster_actor = caf::typed_actor<
    // The sender, a worker_actor, is ready for work.
    caf::reacts_to<atom::enlist, worker_hello>,
    // Sequences have ended, or there is another room than before.
    caf::reacts_to<atom::report, worker_report>, caf::reacts_to<atom::progress, load_progress>,
    caf::reacts_to<atom::loaded, load_outcome>, caf::reacts_to<atom::unloaded, model_ref>,
    // What a load will take, and what it took, on the sender.
    caf::reacts_to<atom::forecast, load_account>, caf::reacts_to<atom::receipt, load_account>>;

/// Hands sequences to workers, and decides what is loaded where.
using scheduler_actor = cluster_actor::extend<
    // Queues the sender's sequences: each is dispatched or refused later.
    caf::reacts_to<atom::enqueue, enqueue_order>,
    // The owner of a sequence wants no more of it.
    caf::reacts_to<atom::withdraw, model_id, sequence_id>,
    // What a prompt took on a worker.
    caf::reacts_to<atom::prefill, prefill_note>,
    // Answers once the model is ready.
    caf::replies_to<atom::load, load_wish>::with<model_status>,
    // Answers once the model's memory is free.
    caf::replies_to<atom::unload, model_id>::with<model_status>,
    caf::replies_to<atom::status>::with<status_list>,
    caf::replies_to<atom::status, model_id>::with<model_status>,
    // Workers that are joined, for the inspector.
    caf::replies_to<atom::list>::with<std::vector<caf::strong_actor_ptr>>,
    // INTERNAL: something is due; the number tells the newest timer from older ones.
    caf::reacts_to<atom::sweep, uint64_t>>;

using gpu_worker_actor = worker_actor::extend<
    // Joins a cluster through its scheduler.
    caf::reacts_to<atom::enlist, cluster_actor>,
    // From the loader.
    caf::reacts_to<atom::opened, opened_model>, caf::reacts_to<atom::progress, load_progress>,
    // From the stager and the loader: what a load will take, and what it took.
    caf::reacts_to<atom::forecast, load_account>, caf::reacts_to<atom::receipt, load_account>,
    // INTERNAL: more of a model's weights are where its engine reads them, or they will not come.
    caf::reacts_to<atom::bound, model_ref>,
    // INTERNAL: runs one step of one engine.
    caf::reacts_to<atom::step>,
    // Takes no more work and answers when the last sequence has ended.
    caf::replies_to<atom::drain>::with<bool>>;

/// Opens checkpoints and brings them into memory, for the sender, a gpu_worker_actor.
using checkpoint_loader_actor =
    caf::typed_actor<caf::reacts_to<atom::load, load_order>,
                     // INTERNAL: the files of a model are here, or cannot be had.
                     caf::reacts_to<atom::fetched, fetched_model>>;

/// Knows how near the weights of models are, and brings them nearer, for the node's workers.
using stager_actor = caf::typed_actor<
    // Tells the sender, a gpu_worker_actor, by `forecast` what a load would take now.
    caf::reacts_to<atom::survey, load_order>,
    // Brings weights into the host pool, after whatever somebody waits for, if there is room for
    // what is asked for so often a second; `spare` stops it.
    caf::reacts_to<atom::prefetch, load_order, double>, caf::reacts_to<atom::spare, model_ref>,
    // INTERNAL: measures the tiers that no load has shown yet, with the model in a directory.
    caf::reacts_to<atom::probe, std::string>>;

/// Reads the text side of models: the only place where tokenizer files are parsed.
using text_loader_actor =
    caf::typed_actor<caf::replies_to<atom::text, model_id>::with<model_text>,
                     // INTERNAL: the files of a model are here, or cannot be had.
                     caf::reacts_to<atom::fetched, fetched_model>>;

/// One deployed model.
using model_actor = caf::typed_actor<
    // The text side, loaded when first asked for.
    caf::replies_to<atom::text>::with<model_text>>;

/// Knows every running request and its deadline.
using gateway_actor = caf::typed_actor<caf::reacts_to<atom::admit, admission>,
                                       // INTERNAL: a deadline may have passed.
                                       caf::reacts_to<atom::sweep>,
                                       // Answers when no request runs any more.
                                       caf::replies_to<atom::drain>::with<bool>>;

using registry_actor = caf::typed_actor<caf::reacts_to<atom::enrol, enrolment>,
                                        // All actors of this node.
                                        caf::replies_to<atom::list>::with<actor_list>>;

} // namespace troupe::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::actors::cluster_actor)
