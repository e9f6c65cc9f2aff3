#pragma once
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <caf/actor_system.hpp>

#include "actors/actor_card.hpp"
#include "actors/devices.hpp"
#include "actors/directory.hpp"
#include "actors/load_book.hpp"
#include "actors/messages.hpp"
#include "actors/metrics.hpp"
#include "actors/model_card.hpp"
#include "actors/node.hpp"
#include "actors/request_log.hpp"
#include "actors/supervisor.hpp"
#include "actors/system_config.hpp"

namespace troupe::engine {
class weight_twins;
}
namespace troupe::gpu {
class device;
}
namespace troupe::storage {
class weight_tiers;
}

namespace troupe::actors {

class peer_plane;

template <class Handle>
caf::strong_actor_ptr erase(const Handle& x) {
  return caf::actor_cast<caf::strong_actor_ptr>(x);
}

/// A node and what it offers to its edges. Public calls come from any thread; everything that they
/// touch is fixed after `boot`, or guarded by itself.
class node_impl final : public node, public services {
public:
  explicit node_impl(node_options options);
  ~node_impl() override;
  /// Starts the actors; to be called once.
  caf::error boot();

  services& edge() override { return *this; }
  uint16_t cluster_port() const override { return cluster_port_; }
  void drain(std::chrono::milliseconds grace, std::function<void()> done) override;
  void wait() override;

  std::shared_ptr<invocation_handle> invoke(invocation_request request,
                                            std::shared_ptr<reply_sink> sink) override;
  void models(callback<std::vector<model_status>> then) override;
  void devices(callback<std::vector<device_status>> then) override;
  void model(const model_id& id, callback<model_status> then) override;
  void frontend(const model_id& id,
                callback<std::shared_ptr<const engine::frontend>> then) override;
  void load(const model_id& id, std::optional<bool> pin, callback<model_status> then) override;
  void unload(const model_id& id, callback<model_status> then) override;
  void actors(callback<std::vector<actor_info>> then) override;
  bool ready() const override { return accepting_ && *workers_ > 0; }
  model_id canonical(const model_id& id) const override { return resolve(id).value_or(id); }
  std::optional<pool_status> pool() const override;
  std::optional<request_record> request(const std::string& id) const override {
    return log_->find(id);
  }
  std::vector<request_record> requests(size_t count) const override { return log_->newest(count); }
  prometheus::Registry& metrics() override { return meters_->registry(); }

private:
  bool heads() const { return options_.role != node_role::worker; }
  bool works() const { return options_.role != node_role::head; }
  /// The served model of that name or alias.
  std::optional<model_id> resolve(const model_id& id) const;
  caf::error make_cards();
  actor_card_ptr card(std::string type, std::string name) const;
  void enrol(const caf::strong_actor_ptr& who, const actor_card_ptr& card) const;
  caf::error boot_head();
  caf::error open_workers(); ///< their devices alone
  void boot_workers();
  caf::error start_peers();
  /// A device of this node and the actor that owns it now.
  struct local_worker {
    std::string device_id;
    std::shared_ptr<gpu::device> device;
    gpu::profiled_device* profile = nullptr; ///< `device`, when a profile is wanted
    actor_card_ptr card;
    gpu_worker_actor actor;
    caf::strong_actor_ptr link; ///< CAF ends an actor that nobody holds
  };
  caf::strong_actor_ptr start_stager(const actor_card_ptr& card);
  caf::strong_actor_ptr start_worker(local_worker& worker);
  /// The same after a crash; on a new device if the old one failed. Null if there is none.
  caf::strong_actor_ptr restart_worker(local_worker& worker);
  caf::expected<std::vector<opened_device>>
  open_by_name(const std::vector<std::string>& names) const;
  void give_device(local_worker& to, std::unique_ptr<gpu::device> device) const;
  caf::strong_actor_ptr start_text_loader(const actor_card_ptr& card);
  caf::strong_actor_ptr start_model(const model_id& id, const actor_card_ptr& card);
  void preload();
  void give_up(const std::string& why);
  void stop_all();

  node_options options_;
  std::string name_;
  std::shared_ptr<actors::metrics> meters_ = std::make_shared<actors::metrics>();
  std::shared_ptr<std::atomic<size_t>> workers_ = std::make_shared<std::atomic<size_t>>(0);
  std::shared_ptr<std::atomic<bool>> stopping_ = std::make_shared<std::atomic<bool>>(false);
  /// The supervisor's id, which is known only once its children run.
  parent_id root_id_ = std::make_shared<std::atomic<uint64_t>>(0);
  parent_id gateway_id_ = std::make_shared<std::atomic<uint64_t>>(0);
  std::shared_ptr<directory> directory_ = std::make_shared<directory>();
  std::map<model_id, model_card_ptr> cards_;
  std::map<model_id, model_id> aliases_;
  std::shared_ptr<storage::weight_tiers> tiers_; ///< null = weights are mapped
  std::shared_ptr<peer_plane> peers_;            ///< null = this node is in no cluster
  std::shared_ptr<engine::weight_twins> twins_;  ///< of all its devices
  std::shared_ptr<request_log> log_;
  std::shared_ptr<load_book> book_ = std::make_shared<load_book>();
  uint16_t cluster_port_ = 0;
  std::atomic<bool> accepting_{false};
  std::atomic<uint64_t> next_number_{0};

  system_config config_;
  std::unique_ptr<caf::actor_system> system_;
  registry_actor registry_;
  scheduler_actor scheduler_;
  gateway_actor gateway_;
  supervisor_actor supervisor_;
  std::vector<child_spec> children_; // until the supervisor has them
  std::mutex mutex_;                 // of the actors of local_workers_ and of started_
  std::vector<std::unique_ptr<local_worker>> local_workers_;
  std::vector<caf::strong_actor_ptr> started_;

  std::mutex drained_mutex_;
  std::condition_variable drained_signal_;
  bool drained_ = false;
};

} // namespace troupe::actors
