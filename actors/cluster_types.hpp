#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "actors/services.hpp"
#include "base/error.hpp"
#include "base/ids.hpp"
#include "base/instant.hpp"
#include "engine/engine.hpp"
#include "gpu/memory_home.hpp"
#include "policies/footprint.hpp"
#include "policies/load_cost.hpp"

namespace troupe::storage {
class arriving_model;
}

/// What the nodes of a cluster say to each other. Each of these encodes as Cap'n Proto; the
/// conversions are in wire.cpp, the schema is schemas/cluster.capnp.
namespace troupe::actors {

/// Raised when an older node could no longer understand a newer one.
inline constexpr uint32_t cluster_protocol = 3;

/// A sequence as dispatched once.
struct sequence_ref {
  model_id model;
  sequence_id id;
  uint32_t epoch = 0;
};

struct run_order {
  model_id model;
  engine::sequence_request sequence;
};

struct token_batch {
  std::vector<engine::token_event> events;
  /// From the start of the first step that held a sequence whose first token this is, until the
  /// batch was sent; 0 = none of the tokens is a first one. What is left of the time to the first
  /// token is the dispatch, whatever clocks the nodes have.
  duration computing{0};
  /// Whether that step had run some of the layers before, and waited for the weights of the others:
  /// `computing` is of the last part alone then.
  bool is_part = false;
};

enum class loss_kind : uint8_t {
  retry,    ///< not the request's fault: run it elsewhere
  invalid,  ///< can never run
  internal, ///< the engine failed
};
struct sequence_loss {
  sequence_ref sequence;
  loss_kind kind = loss_kind::retry;
  std::string message;
};

/// What an engine takes beside KV memory.
inline policies::footprint footprint_of(const engine::engine_memory& memory) {
  return {memory.weights_bytes, memory.workspace_bytes};
}

/// A model on a worker.
struct residence_report {
  model_id model;
  policies::footprint takes;
  uint32_t room = 0;    ///< sequences it could start now
  uint32_t running = 0; ///< sequences it holds, waiting ones included
  double kv_usage = 0;
  uint32_t context_length = 0;
  engine::engine_counters work = {}; ///< since the last report; `swap_bytes` is what is in use
  uint64_t kv_bytes = 0;             ///< borrowed from the worker's KV memory
};

struct worker_hello {
  uint32_t protocol = cluster_protocol;
  std::string node;
  std::string device;
  uint64_t limit_bytes = 0; ///< of weights and the workspace
  std::vector<residence_report> residents;
  std::string data_address{};   ///< where other nodes get weights from it; empty = nowhere
  uint64_t kv_memory_bytes = 0; ///< what its models borrow from
};

/// Tokens that a sequence has made since the last report.
struct served_tokens {
  sequence_ref sequence;
  uint32_t tokens = 0;
  uint32_t reused = 0; ///< prompt tokens that did not have to be computed
};

struct worker_report {
  std::vector<residence_report> residents; ///< those that changed
  std::vector<sequence_ref> retired;
  bool leaving = false; ///< wants no more work
  std::vector<served_tokens> served{};
};

struct load_order {
  model_id model;
  std::string dir;
  engine::engine_options options;
  std::string draft_dir{};   ///< of the model that guesses for it; empty = none
  std::string origin{};      ///< with an empty `dir`: where the model is to be fetched from
  uint64_t weight_bytes = 0; ///< of the model, as far as the head knows
  /// Data addresses of nodes that have the model under the name of `dir`; ":PORT" is the head's.
  std::vector<std::string> holders{};
  /// Those of the workers that are told to load it at the same time, this one among them; or, if it
  /// is not, of those that do so already.
  std::vector<std::string> together{};
  uint32_t place = 0; ///< of this one there, counted from 1; 0 = not there
  // These stay on their node:
  bool mapped = false;     ///< past the pool, which had no memory for it
  bool whole = false;      ///< not before all of it is on this machine
  std::string damage{};    ///< found in the files at `dir`, which are to be mended first
  gpu::memory_home home{}; ///< of the worker's device, if weights may come from another one
  /// Set while weights in `dir` are still on their way from `origin`.
  std::shared_ptr<const storage::arriving_model> arriving{};
};

struct model_ref {
  model_id model;
};

struct load_outcome {
  residence_report residence;
  double seconds = 0;
  uint64_t loaded_bytes = 0;
  std::string error; ///< empty = it is ready
  bool files_broken = false;
  /// It takes requests, and computes for them as far as weights have come; another outcome follows
  /// when all have.
  bool early = false;
};

/// What a load would take now, or what one took.
struct load_account {
  model_id model;
  policies::tier_bytes bytes{}; ///< by where they come from
  policies::load_phases seconds{};
  std::string source{}; ///< which link the remote bytes come over
};

struct actor_list {
  std::vector<actor_info> actors;
};

/// One encode and decode pair per type; `decode` answers any bytes with a value or an error.
namespace wire {
#define TROUPE_WIRE(type)                                                                          \
  std::string encode(const type& x);                                                               \
  caf::error decode(std::string_view bytes, type& x);
TROUPE_WIRE(sequence_ref)
TROUPE_WIRE(run_order)
TROUPE_WIRE(token_batch)
TROUPE_WIRE(sequence_loss)
TROUPE_WIRE(worker_hello)
TROUPE_WIRE(worker_report)
TROUPE_WIRE(load_order)
TROUPE_WIRE(model_ref)
TROUPE_WIRE(load_progress)
TROUPE_WIRE(load_outcome)
TROUPE_WIRE(load_account)
TROUPE_WIRE(actor_list)
#undef TROUPE_WIRE
} // namespace wire

} // namespace troupe::actors
