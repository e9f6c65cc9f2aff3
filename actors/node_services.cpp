#include <random>

#include <caf/all.hpp>

#include "actors/errand.hpp"
#include "actors/errors.hpp"
#include "actors/invocation.hpp"
#include "actors/node_impl.hpp"
#include "storage/pipeline/weight_tiers.hpp"

namespace troupe::actors {

namespace {

constexpr auto status_timeout = std::chrono::seconds{10};
constexpr auto text_timeout = std::chrono::seconds{120};
/// Running requests finish before a model goes: as long as a request may take.
constexpr auto unload_timeout = std::chrono::hours{1};

class handle final : public invocation_handle {
public:
  explicit handle(invocation_actor actor) : actor_{std::move(actor)} {}
  void cancel() override { caf::anon_send(actor_, atom::cancel_v); }

private:
  invocation_actor actor_;
};

/// Of a request that was refused before it became an actor.
class no_handle final : public invocation_handle {
public:
  void cancel() override {}
};

template <class T>
auto fail_with(callback<T> then) {
  return [then = std::move(then)](caf::error& why) {
    if (why == caf::sec::request_timeout)
      why = caf::make_error(errc::timed_out, "the node did not answer in time");
    else if (why == caf::sec::request_receiver_down)
      why = caf::make_error(errc::shutting_down, "the server is shutting down");
    then(std::move(why));
  };
}

uint64_t draw_seed() {
  static thread_local std::mt19937_64 generator{
      (static_cast<uint64_t>(std::random_device{}()) << 32) ^ std::random_device{}()};
  return generator();
}

} // namespace

std::optional<model_id> node_impl::resolve(const model_id& id) const {
  if (cards_.contains(id))
    return id;
  const auto at = aliases_.find(id);
  return at != aliases_.end() && cards_.contains(at->second) ? std::optional{at->second}
                                                             : std::nullopt;
}

std::shared_ptr<invocation_handle> node_impl::invoke(invocation_request request,
                                                     std::shared_ptr<reply_sink> sink) {
  if (!accepting_) {
    sink->on_failure(
        {failure_kind::shutting_down, "the server is shutting down", {}, std::chrono::seconds{5}});
    return std::make_shared<no_handle>();
  }
  const auto id = resolve(request.model);
  if (!id) {
    sink->on_failure({failure_kind::model_not_found,
                      "The model `" + request.model.text +
                          "` does not exist: GET /v1/models lists those that do",
                      "model",
                      {}});
    return std::make_shared<no_handle>();
  }
  request.model = *id;
  const auto deadline = std::chrono::steady_clock::now() + request.timeout;
  invocation_setup setup;
  setup.sink = std::move(sink);
  setup.card = cards_.at(*id);
  setup.model = directory_->model(*id);
  setup.scheduler = scheduler_;
  setup.gateway = caf::actor_cast<caf::strong_actor_ptr>(gateway_);
  setup.meters = meters_;
  setup.log = log_;
  setup.self_card =
      std::make_shared<actor_card>("invocation", "invocation:" + request.id.text, gateway_id_);
  setup.number = next_number_.fetch_add(1);
  setup.drawn_seed = draw_seed();
  setup.request = std::move(request);
  const auto self_card = setup.self_card;
  const auto actor = system_->spawn(invocation, std::move(setup));
  const auto erased = caf::actor_cast<caf::strong_actor_ptr>(actor);
  caf::anon_send(actor, atom::begin_v);
  caf::anon_send(gateway_, atom::admit_v, admission{erased, deadline});
  enrol(erased, self_card);
  return std::make_shared<handle>(actor);
}

std::optional<pool_status> node_impl::pool() const {
  if (!tiers_)
    return std::nullopt;
  const auto now = tiers_->pool().usage();
  return pool_status{.path = options_.storage.pool.string(),
                     .size_bytes = now.size_bytes,
                     .committed_bytes = now.committed_bytes,
                     .held_bytes = now.held_bytes,
                     .leased_bytes = now.leased_bytes,
                     .pinned_bytes = now.pinned_bytes,
                     .chunk_hits = now.hits,
                     .chunk_misses = now.misses,
                     .evictions = now.evictions};
}

void node_impl::models(callback<std::vector<model_status>> then) {
  if (!heads())
    return then(std::vector<model_status>{});
  ask<status_list>(
      *system_, scheduler_, status_timeout, [then](status_list& x) { then(std::move(x.models)); },
      fail_with(then), atom::status_v);
}

void node_impl::devices(callback<std::vector<device_status>> then) {
  if (!heads())
    return then(std::vector<device_status>{});
  ask<status_list>(
      *system_, scheduler_, status_timeout, [then](status_list& x) { then(std::move(x.devices)); },
      fail_with(then), atom::status_v);
}

void node_impl::model(const model_id& name, callback<model_status> then) {
  const auto id = resolve(name);
  if (!id)
    return then(no_such_model(name));
  ask<model_status>(
      *system_, scheduler_, status_timeout, [then](model_status& x) { then(std::move(x)); },
      fail_with(then), atom::status_v, *id);
}

void node_impl::frontend(const model_id& name,
                         callback<std::shared_ptr<const engine::frontend>> then) {
  const auto id = resolve(name);
  if (!id)
    return then(no_such_model(name));
  if (const auto text = cards_.at(*id)->text.load())
    return then(text->frontend);
  ask<model_text>(
      *system_, directory_->model(*id), text_timeout, [then](model_text& x) { then(x.frontend); },
      fail_with(then), atom::text_v);
}

void node_impl::load(const model_id& name, std::optional<bool> pin, callback<model_status> then) {
  const auto id = resolve(name);
  if (!id)
    return then(no_such_model(name));
  // The text side says how much memory the model takes; its files may have to be fetched first.
  const bool here = !cards_.at(*id)->source.dir.empty();
  ask<model_text>(
      *system_, directory_->model(*id), here ? text_timeout : options_.load_timeout,
      [this, then, pin, id = *id](const model_text& text) {
        ask<model_status>(
            *system_, scheduler_, options_.load_timeout,
            [then](model_status& x) { then(std::move(x)); }, fail_with(then), atom::load_v,
            load_wish{id, pin, text.takes});
      },
      fail_with(then), atom::text_v);
}

void node_impl::unload(const model_id& name, callback<model_status> then) {
  const auto id = resolve(name);
  if (!id)
    return then(no_such_model(name));
  ask<model_status>(
      *system_, scheduler_, unload_timeout, [then](model_status& x) { then(std::move(x)); },
      fail_with(then), atom::unload_v, *id);
}

void node_impl::actors(callback<std::vector<actor_info>> then) {
  // This node's own first, then those of every worker that answers in time.
  ask<actor_list>(
      *system_, registry_, status_timeout,
      [this, then](actor_list& own) {
        if (!heads())
          return then(std::move(own.actors));
        auto out = std::make_shared<std::vector<actor_info>>(std::move(own.actors));
        ask<std::vector<caf::strong_actor_ptr>>(
            *system_, scheduler_, status_timeout,
            [this, then, out](std::vector<caf::strong_actor_ptr>& workers) {
              std::erase_if(workers, [&](const auto& x) { return x->node() == system_->node(); });
              if (workers.empty())
                return then(std::move(*out));
              auto left = std::make_shared<std::atomic<size_t>>(workers.size());
              auto guard = std::make_shared<std::mutex>();
              const auto one_less = [=] {
                if (--*left == 0)
                  then(std::move(*out));
              };
              for (const auto& worker : workers)
                ask<actor_list>(
                    *system_, caf::actor_cast<worker_actor>(worker), std::chrono::seconds{1},
                    [=](actor_list& x) {
                      {
                        const std::lock_guard lock{*guard};
                        out->insert(out->end(), x.actors.begin(), x.actors.end());
                      }
                      one_less();
                    },
                    [=](const caf::error&) { one_less(); }, atom::list_v);
            },
            fail_with(then), atom::list_v);
      },
      fail_with(then), atom::list_v);
}

} // namespace troupe::actors
