#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/devices.hpp"
#include "actors/services.hpp"
#include "base/host_port.hpp"
#include "engine/engine.hpp"
#include "gpu/profile.hpp"
#include "storage/catalog.hpp"

namespace troupe::storage {
class model_fetcher;
}

namespace troupe::actors {

enum class node_role : uint8_t {
  all,    ///< gateway, scheduler and a local worker in one process
  head,   ///< gateway and scheduler; workers join over the network
  worker, ///< a worker that joins a head
};

/// What may be set per model; unset values come from the node's defaults.
struct model_settings {
  std::optional<std::chrono::milliseconds> keep_alive; ///< negative = for ever, 0 = unload at once
  bool pinned = false;                                 ///< never evicted, loaded at start
  bool preload = false;
  uint32_t replicas = 1; ///< copies that are loaded together, where there is room
  std::optional<uint64_t> kv_bytes;
  std::optional<uint32_t> context_max;
  std::optional<engine::quantization> quantize;
  /// An inner nothing follows the weights, whatever the node's default is.
  std::optional<std::optional<dtype>> kv_type;
  std::string draft_dir{}; ///< of the model that guesses for it; empty = none
  std::vector<std::string> aliases;
};

/// How a worker's weights are loaded.
struct storage_options {
  /// The host pool's file, on a tmpfs; empty = no pool: weights are mapped.
  std::filesystem::path pool;
  uint64_t pool_bytes = 0;
  uint64_t ready_bytes = 0; ///< of those, kept ready for loads to come
  /// Of those, pinned at most, so that devices which can read them by themselves.
  uint64_t pinned_bytes_max = UINT64_MAX;
  std::filesystem::path checksums; ///< directory of recorded checksums; empty = none are kept
  bool prefetch = true;            ///< bring weights into the pool before they are asked for
  /// Directory for what this machine's disk needs of models that come from other nodes; empty =
  /// beside the pool's file.
  std::filesystem::path stand_ins{};
};

/// As a keep_alive: it follows from use and reload.
inline constexpr std::chrono::milliseconds auto_keep_alive = -std::chrono::hours{876'000};

struct node_options {
  node_role role = node_role::all;
  std::vector<storage::model_source> models; ///< head and all: what is served
  /// Brings models to this machine that are still at their origin; null = there are none.
  std::shared_ptr<storage::model_fetcher> fetcher;
  std::map<model_id, model_settings> settings;
  std::chrono::milliseconds keep_alive{300'000};
  std::vector<std::string> devices{"auto"}; ///< one worker each; see `open_devices`
  /// How they are opened, at the start and one of them after it failed; null = by `open_devices`.
  std::function<caf::expected<std::vector<opened_device>>(const std::vector<std::string>& names,
                                                          const gpu::device_options& options)>
      open;
  uint64_t memory_limit_bytes = 0;    ///< of one worker, weights + KV; 0 = the share below
  uint32_t memory_limit_percent = 80; ///< of the device's memory
  /// KV memory of one worker, which its models borrow from; 0 = the share below.
  uint64_t kv_memory_bytes = 0;
  uint32_t kv_memory_percent = 10; ///< of its memory limit
  unsigned threads = 0;            ///< CPU backend threads; 0 = one per core
  bool float32 = false;            ///< exact float arithmetic instead of the fastest path
  /// Of many rows on CUDA devices.
  gpu::products products = gpu::products::invariant;
  engine::engine_options engine; ///< defaults for every model
  storage_options storage;
  uint32_t queue_max = 1024; ///< waiting sequences per model; beyond it: queue_full
  std::chrono::milliseconds load_timeout{600'000};
  uint32_t request_history = 4096;         ///< requests that can be explained: the last ones
  std::optional<host_port> cluster_listen; ///< head: for workers (port 0 = any free one)
  std::optional<host_port> join;           ///< worker: where the head listens for workers
  /// Where other nodes of the cluster get weights; unset = at the address that the cluster knows
  /// this node by, any free port.
  std::optional<host_port> data_listen;
  uint64_t data_rate = 0; ///< bytes per second that are sent there at most; 0 = no limit
  bool same_paths = true; ///< worker: what lies under the head's path of a model is that model
  std::string
      node_name; ///< unique in a cluster; empty = the host's, a worker's with its process id
  /// Set = what every op of the engines cost is noted, and told when the node has ended.
  std::function<void(std::vector<gpu::op_cost>)> on_profile;
};

/// A running node: owns the actor system. One per process.
class node {
public:
  /// Starts everything; does not wait for models. Fails with a clear error (port taken ...).
  static caf::expected<std::unique_ptr<node>> start(node_options options);
  virtual ~node() = default; ///< stops now, without draining

  virtual services& edge() = 0;
  /// The port that workers join at, 0 when none.
  virtual uint16_t cluster_port() const = 0;
  /// Stops accepting and calls `done` when the last running request has finished or `grace` is
  /// over.
  virtual void drain(std::chrono::milliseconds grace, std::function<void()> done) = 0;
  /// Worker role: blocks until the node is told to stop (drain finished).
  virtual void wait() = 0;
};

} // namespace troupe::actors
