#include "actors/node.hpp"

#include <algorithm>
#include <cstdlib>
#include <random>

#include <unistd.h>

#include <caf/all.hpp>

#include "actors/cluster.hpp"
#include "actors/errand.hpp"
#include "actors/errors.hpp"
#include "actors/gateway_actor.hpp"
#include "actors/log.hpp"
#include "actors/model.hpp"
#include "actors/model_files.hpp"
#include "actors/node_impl.hpp"
#include "actors/peer_plane.hpp"
#include "actors/pooled_files.hpp"
#include "actors/registry.hpp"
#include "actors/scheduler.hpp"
#include "gpu/device.hpp"
#include "storage/store/model_fetcher.hpp"

namespace troupe::actors {

namespace {

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "node";
}

caf::error check(const node_options& options) {
  const auto bad = [](std::string why) {
    return caf::make_error(errc::invalid_options, std::move(why));
  };
  if (options.role == node_role::worker && !options.join)
    return bad("a worker needs the address of a head: --join HOST:PORT");
  if (options.role != node_role::worker && options.join)
    return bad("--join is for workers: add --role worker");
  if (options.join && options.join->port == 0)
    return bad("--join names port 0: write the port that the head listens on");
  if (options.role == node_role::head && !options.cluster_listen)
    return bad("a head without --cluster-listen HOST:PORT can have no workers");
  return {};
}

/// Keeps no more memory ready than the largest model of the node could use. The sizes of models
/// that are fetched, and of those that a head names, are not known.
storage_options storage_for(const node_options& options) {
  auto out = options.storage;
  uint64_t largest = options.role == node_role::worker ? out.ready_bytes : 0;
  for (const auto& model : options.models)
    largest = std::max(largest, model.dir.empty() ? out.ready_bytes : model.weight_bytes);
  out.ready_bytes = std::min(out.ready_bytes, largest);
  return out;
}

} // namespace

caf::expected<std::unique_ptr<node>> node::start(node_options options) {
  if (auto why = check(options))
    return why;
  auto out = std::make_unique<node_impl>(std::move(options));
  if (auto why = out->boot())
    return why;
  return std::unique_ptr<node>{std::move(out)};
}

node_impl::node_impl(node_options options) : options_{std::move(options)} {
  name_ = options_.node_name;
  log_ = std::make_shared<request_log>(options_.request_history);
  if (name_.empty()) // one machine may run several workers
    name_ = heads() ? host_name() : host_name() + "-" + std::to_string(getpid());
}

node_impl::~node_impl() {
  accepting_ = false;
  stop_all();
  if (options_.fetcher)
    options_.fetcher->stop(); // its threads send to actors
  registry_ = nullptr;
  scheduler_ = nullptr;
  gateway_ = nullptr;
  supervisor_ = nullptr;
  for (const auto& worker : local_workers_) {
    worker->actor = nullptr;
    worker->link = nullptr;
  }
  children_.clear();
  started_.clear();
  directory_ = nullptr;
  system_.reset(); // waits for every actor
  for (const auto& worker : local_workers_)
    if (worker->profile != nullptr)
      options_.on_profile(worker->profile->take_costs());
}

void node_impl::stop_all() {
  *stopping_ = true;
  if (!system_)
    return;
  // The supervisor first, so that it starts nothing again; invocations end with the gateway.
  if (supervisor_)
    caf::anon_send_exit(supervisor_, caf::exit_reason::user_shutdown);
  if (gateway_)
    caf::anon_send_exit(gateway_, caf::exit_reason::user_shutdown);
  const std::lock_guard guard{mutex_};
  for (auto at = started_.rbegin(); at != started_.rend(); ++at)
    caf::anon_send_exit(*at, caf::exit_reason::user_shutdown);
}

caf::error node_impl::make_cards() {
  for (const auto& source : options_.models) {
    auto card = std::make_shared<model_card>();
    card->source = source;
    card->options = options_.engine;
    if (const auto at = options_.settings.find(source.id); at != options_.settings.end()) {
      card->options.kv_bytes = at->second.kv_bytes.value_or(card->options.kv_bytes);
      card->options.context_max = at->second.context_max.value_or(card->options.context_max);
      card->options.quantize = at->second.quantize.value_or(card->options.quantize);
      card->options.kv_type = at->second.kv_type.value_or(card->options.kv_type);
      card->draft_dir = at->second.draft_dir;
      for (const auto& alias : at->second.aliases)
        if (!aliases_.emplace(model_id{alias}, source.id).second)
          return caf::make_error(errc::invalid_options, "two models have the alias " + alias);
    }
    cards_.emplace(source.id, std::move(card));
  }
  return {};
}

actor_card_ptr node_impl::card(std::string type, std::string name) const {
  return std::make_shared<actor_card>(std::move(type), std::move(name), root_id_);
}

void node_impl::enrol(const caf::strong_actor_ptr& who, const actor_card_ptr& card) const {
  caf::anon_send(registry_, atom::enrol_v, enrolment{who, card});
}

caf::error node_impl::boot() {
  if (auto why = make_cards())
    return why;
  if (options_.cluster_listen || options_.join)
    load_network(config_);
  system_ = std::make_unique<caf::actor_system>(config_);
  next_number_ = (static_cast<uint64_t>(std::random_device{}()) << 24) + 1;
  const auto registry_card = card("registry", "registry");
  registry_ = system_->spawn(registry, name_, registry_card);
  children_.push_back({"registry", erase(registry_), {}, true, registry_card});
  if (works())
    tiers_ = open_tiers(storage_for(options_));
  if (options_.cluster_listen || options_.join)
    if (auto why = start_peers())
      return why;
  if (works())
    if (auto why = open_workers())
      return why;
  if (heads())
    if (auto why = boot_head())
      return why;
  if (works())
    boot_workers();
  for (const auto& child : children_)
    started_.push_back(child.first);
  auto self_card = std::make_shared<actor_card>("node", name_, nullptr);
  supervisor_ = system_->spawn(supervisor,
                               supervisor_setup{std::move(children_),
                                                {},
                                                self_card,
                                                stopping_,
                                                [this](const std::string& why) { give_up(why); }});
  *root_id_ = supervisor_.id();
  enrol(erase(supervisor_), self_card);
  accepting_ = true;
  if (heads())
    preload();
  return {};
}

caf::error node_impl::start_peers() {
  peer_plane_options options;
  options.node = name_;
  options.bytes_per_second = options_.data_rate;
  options.checksums = options_.storage.checksums;
  options.stand_ins = options_.storage.stand_ins;
  options.same_paths = options_.same_paths;
  options.on_sent = [meters = meters_](uint64_t bytes) {
    meters->sent_to_peers(static_cast<double>(bytes));
  };
  if (options_.join) {
    options.head_host = options_.join->host;
    options.own_host = storage::own_address_towards(*options_.join);
    options.listen.host = options.own_host;
  } else {
    options.listen.host = options_.cluster_listen->host;
  }
  if (options_.data_listen)
    options.listen = *options_.data_listen;
  if (options.stand_ins.empty())
    options.stand_ins =
        options_.storage.pool.parent_path() / ("troupe-peers-" + std::to_string(::geteuid()));
  auto started = peer_plane::start(std::move(options), tiers_);
  if (!started) {
    const auto why = ": " + describe(started.error());
    if (heads() && !options_.data_listen)
      return caf::make_error(errc::unreachable, "cannot listen for workers at " +
                                                    to_string(*options_.cluster_listen) + why +
                                                    "; choose another --cluster-listen address");
    return caf::make_error(errc::unreachable, "cannot give weights to other nodes" + why +
                                                  "; choose another cluster.data_listen");
  }
  peers_ = std::move(*started);
  if (heads())
    for (const auto& [id, card] : cards_)
      for (const auto& dir : {card->source.dir.string(), card->draft_dir})
        if (!dir.empty())
          peers_->offer(dir);
  return {};
}

caf::error node_impl::boot_head() {
  scheduler_setup setup;
  setup.policy.queue_max = options_.queue_max;
  setup.policy.keep_alive = options_.keep_alive;
  setup.policy.prefetch = options_.storage.prefetch && !options_.storage.pool.empty();
  setup.meters = meters_;
  setup.log = log_;
  setup.workers = workers_;
  setup.self_card = card("scheduler", "scheduler");
  if (peers_)
    setup.data_address = peers_->address();
  for (const auto& [id, card] : cards_) {
    policies::served_model spec{.id = id, .keep_alive = {}, .pinned = false};
    if (const auto at = options_.settings.find(id); at != options_.settings.end()) {
      spec.keep_alive = at->second.keep_alive;
      spec.pinned = at->second.pinned;
      spec.replicas = at->second.replicas;
    }
    setup.models.emplace_back(card, std::move(spec));
  }
  const auto scheduler_card = setup.self_card;
  scheduler_ = system_->spawn(scheduler, std::move(setup));
  enrol(erase(scheduler_), scheduler_card);
  children_.push_back({"scheduler", erase(scheduler_), {}, true, scheduler_card});
  const auto gateway_card = card("gateway", "gateway");
  gateway_ = system_->spawn(gateway, gateway_card);
  *gateway_id_ = gateway_.id();
  enrol(erase(gateway_), gateway_card);
  children_.push_back({"gateway", erase(gateway_), {}, true, gateway_card});
  const auto text_card = card("text-loader", "text-loader");
  children_.push_back({"text-loader", start_text_loader(text_card),
                       [this, text_card] { return start_text_loader(text_card); }, false,
                       text_card});
  for (const auto& [id, source] : cards_) {
    const auto model_card = card("model", "model:" + id.text);
    children_.push_back({"model " + id.text, start_model(id, model_card),
                         [this, id = id, model_card] { return start_model(id, model_card); }, false,
                         model_card});
  }
  if (!options_.cluster_listen)
    return {};
  const auto port = publish(*system_, scheduler_, *options_.cluster_listen);
  if (!port)
    return port.error();
  cluster_port_ = *port;
  return {};
}

caf::strong_actor_ptr node_impl::start_text_loader(const actor_card_ptr& loader_card) {
  std::vector<std::shared_ptr<gpu::device>> devices;
  for (const auto& local : local_workers_)
    devices.push_back(local->device);
  const auto load = [devices = std::move(devices)](const model_card& card, const std::string& dir) {
    return load_model_text(card, dir, devices);
  };
  const auto loader = system_->spawn<caf::detached>(
      text_loader,
      text_loader_setup{load, make_model_fetch(options_.fetcher), cards_, loader_card});
  enrol(erase(loader), loader_card);
  directory_->text_loader(loader);
  const std::lock_guard guard{mutex_};
  started_.push_back(erase(loader));
  return erase(loader);
}

caf::strong_actor_ptr node_impl::start_model(const model_id& id, const actor_card_ptr& model_card) {
  const auto actor = system_->spawn(actors::model, cards_.at(id),
                                    std::shared_ptr<const directory>{directory_}, model_card);
  enrol(erase(actor), model_card);
  directory_->model(id, actor);
  const std::lock_guard guard{mutex_};
  started_.push_back(erase(actor));
  return erase(actor);
}

void node_impl::preload() {
  for (const auto& [id, settings] : options_.settings)
    if ((settings.pinned || settings.preload) && cards_.contains(id))
      load(id, settings.pinned ? std::optional{true} : std::nullopt,
           [id = id](const caf::expected<model_status>& status) {
             if (!status)
               log_warning("preloading model " + id.text + " failed: " + describe(status.error()));
           });
}

void node_impl::give_up(const std::string& why) {
  log_error(why + "; this node ends");
  accepting_ = false;
  if (gateway_)
    caf::anon_send_exit(gateway_, caf::exit_reason::user_shutdown);
  // Clients get a moment to hear of it. A program in an unknown state must not run destructors.
  system_->spawn([](caf::event_based_actor* self) -> caf::behavior {
    self->delayed_send(self, std::chrono::milliseconds{300}, atom::expire_v);
    return {[](atom::expire) { std::_Exit(70); }};
  });
}

void node_impl::drain(std::chrono::milliseconds grace, std::function<void()> done) {
  accepting_ = false;
  const auto finish = [this, done = std::move(done)] {
    done();
    const std::lock_guard guard{drained_mutex_};
    drained_ = true;
    drained_signal_.notify_all();
  };
  const auto forced = [this, finish](const caf::error&) {
    if (gateway_)
      caf::anon_send_exit(gateway_, caf::exit_reason::user_shutdown);
    finish();
  };
  const auto drained = [finish](bool) { finish(); };
  if (heads())
    return ask<bool>(*system_, gateway_, grace, drained, forced, atom::drain_v);
  const std::lock_guard guard{mutex_};
  const auto left = std::make_shared<std::atomic<size_t>>(local_workers_.size());
  const auto last = [left, finish](const auto&) {
    if (--*left == 0)
      finish();
  };
  for (const auto& worker : local_workers_)
    ask<bool>(*system_, worker->actor, grace, last, last, atom::drain_v);
}

void node_impl::wait() {
  std::unique_lock guard{drained_mutex_};
  drained_signal_.wait(guard, [this] { return drained_; });
}

} // namespace troupe::actors
