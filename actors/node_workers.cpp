// The part of a node that works: its devices, and the actors that own them or bring models to them.
#include <algorithm>
#include <functional>

#include <caf/all.hpp>

#include "actors/checkpoint_loader.hpp"
#include "actors/cluster.hpp"
#include "actors/gpu_worker.hpp"
#include "actors/log.hpp"
#include "actors/model_files.hpp"
#include "actors/node_impl.hpp"
#include "actors/peer_plane.hpp"
#include "actors/pooled_files.hpp"
#include "actors/stager.hpp"
#include "actors/worker_engines.hpp"
#include "storage/store/model_fetcher.hpp"

namespace troupe::actors {

namespace {

/// Begins after the node's own start: it has to be quick.
constexpr auto probe_delay = std::chrono::milliseconds{500};

} // namespace

caf::expected<std::vector<opened_device>>
node_impl::open_by_name(const std::vector<std::string>& names) const {
  gpu::device_options options;
  options.threads = options_.threads;
  options.mode = options_.float32 ? gpu::precision::float32 : gpu::precision::automatic;
  options.wide = options_.products;
  options.warn = log_warning;
  return options_.open ? options_.open(names, options) : open_devices(names, options);
}

void node_impl::give_device(local_worker& local, std::unique_ptr<gpu::device> device) const {
  if (options_.on_profile) {
    auto profiled = gpu::make_profiled_device(std::move(device));
    local.profile = profiled.get();
    local.device = std::move(profiled);
  } else {
    local.device = std::move(device);
  }
}

caf::error node_impl::open_workers() {
  auto devices = open_by_name(options_.devices);
  if (!devices)
    return devices.error();
  twins_ = std::make_shared<engine::weight_twins>();
  bool is_pinned = false; // for all of them, by the first that wants it
  for (auto& opened : *devices) {
    auto local = std::make_unique<local_worker>();
    local->device_id = std::move(opened.id);
    local->card = card("gpu-worker", "gpu-worker:" + std::to_string(local_workers_.size()));
    give_device(*local, std::move(opened.device));
    is_pinned = is_pinned ||
                (tiers_ && pin_pool(*tiers_, *local->device, options_.storage.pinned_bytes_max));
    local_workers_.push_back(std::move(local));
  }
  return {};
}

void node_impl::boot_workers() {
  const auto stager_card = card("stager", "stager");
  children_.push_back({"stager", start_stager(stager_card),
                       [this, stager_card] { return start_stager(stager_card); }, false,
                       stager_card});
  for (const auto& local : local_workers_) {
    auto* worker = local.get();
    children_.push_back({"gpu-worker " + worker->device_id, start_worker(*worker),
                         [this, worker] { return restart_worker(*worker); }, false, worker->card});
  }
}

caf::strong_actor_ptr node_impl::start_stager(const actor_card_ptr& stager_card) {
  stager_setup setup;
  setup.look = [tiers = tiers_, twins = twins_](const load_order& order, const std::string& dir,
                                                uint64_t coming_bytes) {
    return survey_model_files(order, dir, tiers, twins, coming_bytes);
  };
  setup.find = make_model_find(options_.fetcher);
  setup.prefetch = make_prefetch(tiers_);
  setup.probe = make_probe(tiers_);
  setup.book = book_;
  setup.self_card = stager_card;
  const auto actor = system_->spawn<caf::detached>(stager, std::move(setup));
  enrol(erase(actor), stager_card);
  directory_->stager(actor);
  const auto biggest = std::max_element(
      options_.models.begin(), options_.models.end(),
      [](const auto& a, const auto& b) { return a.weight_bytes < b.weight_bytes; });
  if (biggest != options_.models.end() && !biggest->dir.empty())
    caf::delayed_anon_send(actor, probe_delay, atom::probe_v, biggest->dir.string());
  const std::lock_guard guard{mutex_};
  started_.push_back(erase(actor));
  return erase(actor);
}

caf::strong_actor_ptr node_impl::start_worker(local_worker& local) {
  const auto loader_card = card("checkpoint-loader", "checkpoint-loader");
  const auto open = [tiers = tiers_, peers = peers_,
                     twins = twins_](const load_order& order, const open_progress& progress) {
    return open_model_files(order, progress, tiers, peers, twins);
  };
  checkpoint_loader_setup loading;
  loading.open = open;
  loading.fetch = make_model_fetch(options_.fetcher);
  if (peers_) {
    loading.share = std::bind_front(&peer_plane::share, peers_);
    loading.offer = std::bind_front(&peer_plane::offer_fetched, peers_);
  }
  loading.mend = make_model_mend(options_.fetcher, tiers_);
  loading.book = book_;
  loading.stop = stopping_;
  loading.self_card = loader_card;
  const auto loader = system_->spawn<caf::detached>(checkpoint_loader, std::move(loading));
  enrol(erase(loader), loader_card);
  gpu_worker_setup setup;
  setup.node = name_;
  setup.device = local.device_id;
  if (peers_)
    setup.data_address = peers_->address();
  const auto limit_bytes = options_.memory_limit_bytes != 0
                               ? options_.memory_limit_bytes
                               : local.device->memory_bytes() / 100 * options_.memory_limit_percent;
  const auto kv_bytes = options_.kv_memory_bytes != 0
                            ? options_.kv_memory_bytes
                            : limit_bytes / 100 * options_.kv_memory_percent;
  // The rest is for what the models have of their own.
  setup.limit_bytes = limit_bytes - std::min(limit_bytes, kv_bytes);
  setup.kv_memory_bytes = kv_bytes;
  setup.home = local.device->home();
  setup.make_engine = engines_on(local.device, kv_bytes, twins_);
  setup.loader = loader;
  setup.where = directory_;
  setup.book = book_;
  setup.registry = registry_;
  setup.self_card = local.card;
  const auto worker = system_->spawn<caf::detached>(gpu_worker, std::move(setup));
  enrol(erase(worker), local.card);
  caf::strong_actor_ptr link;
  if (options_.role == node_role::all) {
    caf::anon_send(worker, atom::enlist_v, caf::actor_cast<cluster_actor>(scheduler_));
  } else {
    const auto link_card = card("cluster-link", "cluster-link");
    link = erase(spawn_cluster_link(*system_, worker, *options_.join, link_card));
    enrol(link, link_card);
  }
  const std::lock_guard guard{mutex_};
  local.actor = worker;
  local.link = std::move(link);
  started_.push_back(erase(worker)); // its loader and its link are linked to it
  return erase(worker);
}

caf::strong_actor_ptr node_impl::restart_worker(local_worker& local) {
  // The worker is gone, and with it all that its device held.
  if (!local.device->synchronize())
    return start_worker(local);
  auto opened = open_by_name({local.device_id});
  if (!opened) {
    log_error("device " + local.device_id +
              " does not start again within this process: " + describe(opened.error()));
    return nullptr;
  }
  give_device(local, std::move(opened->front().device));
  return start_worker(local);
}

} // namespace troupe::actors
