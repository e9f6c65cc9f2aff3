#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/request.hpp"
#include "actors/request_record.hpp"
#include "base/error.hpp"
#include "base/ids.hpp"

namespace prometheus {
class Registry;
}
namespace troupe::engine {
struct frontend;
}

namespace troupe::actors {

/// One served model as `GET /v1/models`, `troupe ps` and `troupe models` show it.
struct model_status {
  model_id id;
  std::string architecture;
  std::string path;
  std::string state; ///< "cold", "loading", "ready", "failed"
  std::string error; ///< why the last load failed, or empty
  uint64_t weight_bytes = 0;
  uint64_t resident_bytes = 0; ///< weights and KV on its devices
  uint64_t kv_bytes = 0;       ///< of those
  uint64_t loaded_bytes = 0;   ///< while loading
  std::string device;          ///< "cpu@node", empty when cold
  uint32_t active = 0;         ///< sequences running
  uint32_t queued = 0;         ///< sequences waiting
  bool pinned = false;
  uint32_t context_length = 0; ///< 0 until known
  std::chrono::system_clock::time_point created;
  std::optional<std::chrono::system_clock::time_point> last_used;
  std::optional<std::chrono::system_clock::time_point> unload_at; ///< when it will go away if idle
  uint64_t requests = 0;
  uint64_t generated_tokens = 0;
  double load_seconds = 0; ///< of the last load
};

/// One actor as the inspector shows it.
struct actor_info {
  uint64_t id = 0;
  std::string name; ///< for example "model:qwen2.5-0.5b"
  std::string type; ///< for example "model"
  std::string node;
  uint64_t parent = 0;   ///< 0 = root
  std::string state;     ///< for example "running", "loading"
  uint64_t messages = 0; ///< handled since start
  uint64_t restarts = 0;
  double age_seconds = 0;
  std::string detail; ///< one line, for example "2 running, 0 waiting, kv 3%"
};

/// The node's host pool: memory for weights that outlives models and the process.
/// The memory of one device, as far as models may have it.
struct device_status {
  std::string device;       ///< "cpu@node"
  uint64_t limit_bytes = 0; ///< of weights and the workspace
  uint64_t weights_bytes = 0;
  uint64_t workspace_bytes = 0; ///< one for all models
  uint64_t kv_memory_bytes = 0; ///< what models borrow from
  uint64_t kv_bytes = 0;        ///< borrowed
};

struct pool_status {
  std::string path;
  uint64_t size_bytes = 0;      ///< at most
  uint64_t committed_bytes = 0; ///< taken from the machine
  uint64_t held_bytes = 0;      ///< of weights
  uint64_t leased_bytes = 0;    ///< of those, used by loaded models
  uint64_t pinned_bytes = 0;    ///< of those committed, read by devices by themselves
  uint64_t chunk_hits = 0, chunk_misses = 0, evictions = 0;
};

template <class T>
using callback = std::function<void(caf::expected<T>)>;

/// What a node offers to its edges (HTTP, command line). Implemented by the actors; tests of the
/// edges implement it by hand. All calls may come from any thread and never block; callbacks run on
/// actor threads, exactly once each.
class services {
public:
  virtual ~services() = default;
  /// Starts a request; the outcome goes to `sink`.
  virtual std::shared_ptr<invocation_handle> invoke(invocation_request request,
                                                    std::shared_ptr<reply_sink> sink) = 0;
  /// The served model that is called so, by its name or an alias; `id` itself if there is none.
  virtual model_id canonical(const model_id& id) const { return id; }
  virtual void models(callback<std::vector<model_status>> then) = 0;
  /// The devices that models of this head run on.
  virtual void devices(callback<std::vector<device_status>> then) {
    then(std::vector<device_status>{});
  }
  /// Fails with errc::model_not_found of this module.
  virtual void model(const model_id& id, callback<model_status> then) = 0;
  /// The text side of a model, loaded when first needed; works for cold models.
  virtual void frontend(const model_id& id,
                        callback<std::shared_ptr<const engine::frontend>> then) = 0;
  /// Answers once the model is ready. `pin` keeps it from eviction and keep-alive.
  virtual void load(const model_id& id, std::optional<bool> pin, callback<model_status> then) = 0;
  /// Answers once the model's memory is free; running requests finish first.
  virtual void unload(const model_id& id, callback<model_status> then) = 0;
  virtual void actors(callback<std::vector<actor_info>> then) = 0;
  /// Nothing if this node has no pool.
  virtual std::optional<pool_status> pool() const { return std::nullopt; }
  /// One of the last requests, by the id of its header or of its answer.
  virtual std::optional<request_record> request(const std::string& /*id*/) const {
    return std::nullopt;
  }
  /// The newest ones, newest first, `count` at most.
  virtual std::vector<request_record> requests(size_t /*count*/) const { return {}; }
  /// True while new requests are accepted (not draining, and at least one worker is joined).
  virtual bool ready() const = 0;
  /// Shared by every part of the node; the gateway adds its families and serializes it.
  virtual prometheus::Registry& metrics() = 0;
};

} // namespace troupe::actors
