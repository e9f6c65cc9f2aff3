// Routes about models and actors: the public list, and the administration.
#include <nlohmann/json.hpp>

#include "base/rfc3339.hpp"
#include "gateway/access.hpp"
#include "gateway/api.hpp"
#include "gateway/api_error.hpp"

namespace troupe::gateway {

using json = nlohmann::ordered_json;
using actors::actor_info;
using actors::model_status;
using time_point = std::chrono::system_clock::time_point;

namespace {

/// Never throws: names and paths need not be UTF-8.
std::string print(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

http_response json_response(const json& value) {
  http_response out;
  out.body = print(value);
  return out;
}

json rfc3339(const std::optional<time_point>& when) {
  return when ? json(format_rfc3339(*when)) : json{};
}

json public_model(const model_status& model) {
  json out;
  out["id"] = model.id.text;
  out["object"] = "model";
  out["created"] =
      std::chrono::duration_cast<std::chrono::seconds>(model.created.time_since_epoch()).count();
  out["owned_by"] = "troupe";
  out["max_model_len"] = model.context_length > 0 ? json(model.context_length) : json{};
  out["status"] = {{"value", model.state}};
  return out;
}

/// The names of the fields are those of model_status; command line and tests read them.
json admin_model(const model_status& model) {
  json out;
  out["id"] = model.id.text;
  out["architecture"] = model.architecture;
  out["path"] = model.path;
  out["state"] = model.state;
  out["error"] = model.error;
  out["weight_bytes"] = model.weight_bytes;
  out["resident_bytes"] = model.resident_bytes;
  out["kv_bytes"] = model.kv_bytes;
  out["loaded_bytes"] = model.loaded_bytes;
  out["device"] = model.device;
  out["active"] = model.active;
  out["queued"] = model.queued;
  out["pinned"] = model.pinned;
  out["context_length"] = model.context_length;
  out["created"] = rfc3339(model.created);
  out["last_used"] = rfc3339(model.last_used);
  out["unload_at"] = rfc3339(model.unload_at);
  out["requests"] = model.requests;
  out["generated_tokens"] = model.generated_tokens;
  out["load_seconds"] = model.load_seconds;
  return out;
}

json admin_device(const actors::device_status& device) {
  return {{"device", device.device},
          {"limit_bytes", device.limit_bytes},
          {"weights_bytes", device.weights_bytes},
          {"workspace_bytes", device.workspace_bytes},
          {"kv_memory_bytes", device.kv_memory_bytes},
          {"kv_bytes", device.kv_bytes}};
}

json admin_pool(const actors::pool_status& pool) {
  return {{"path", pool.path},
          {"size_bytes", pool.size_bytes},
          {"committed_bytes", pool.committed_bytes},
          {"held_bytes", pool.held_bytes},
          {"leased_bytes", pool.leased_bytes},
          {"pinned_bytes", pool.pinned_bytes},
          {"chunk_hits", pool.chunk_hits},
          {"chunk_misses", pool.chunk_misses},
          {"evictions", pool.evictions}};
}

json admin_actor(const actor_info& actor) {
  json out;
  out["id"] = actor.id;
  out["name"] = actor.name;
  out["type"] = actor.type;
  out["node"] = actor.node;
  out["parent"] = actor.parent;
  out["state"] = actor.state;
  out["messages"] = actor.messages;
  out["restarts"] = actor.restarts;
  out["age_seconds"] = actor.age_seconds;
  out["detail"] = actor.detail;
  return out;
}

template <class T>
http_response list_response(const caf::expected<std::vector<T>>& items, json (*render)(const T&),
                            const json& more = json::object()) {
  if (!items)
    return error_response(to_api_error(items.error()));
  json out{{"object", "list"}, {"data", json::array()}};
  out.update(more);
  for (const auto& item : *items)
    out["data"].push_back(render(item));
  return json_response(out);
}

http_response status_response(const caf::expected<model_status>& status,
                              json (*render)(const model_status&)) {
  return status ? json_response(render(*status)) : error_response(to_api_error(status.error()));
}

} // namespace

void api::list_models(const http_request& request, const channel_ptr& channel, const std::string&) {
  services_.models([channel, who = request.tenant,
                    key = request.key](caf::expected<std::vector<model_status>> models) {
    if (models)
      std::erase_if(*models, [&](const model_status& x) {
        return !may_use(who.get(), key.get(), x.id.text);
      });
    channel->send(list_response(models, public_model));
  });
}

void api::retrieve_model(const http_request& request, const channel_ptr& channel,
                         const std::string& model) {
  if (const auto error = refuse_model(request, model))
    return channel->send(error_response(*error));
  services_.model({model}, [channel](caf::expected<model_status> status) {
    channel->send(status_response(status, public_model));
  });
}

void api::admin_models(const http_request&, const channel_ptr& channel, const std::string&) {
  json more;
  if (const auto pool = services_.pool())
    more["pool"] = admin_pool(*pool);
  services_.devices(
      [this, channel, more](caf::expected<std::vector<actors::device_status>> devices) {
        if (!devices)
          return channel->send(error_response(to_api_error(devices.error())));
        auto all = more;
        all["devices"] = json::array();
        for (const auto& device : *devices)
          all["devices"].push_back(admin_device(device));
        services_.models([channel, all](caf::expected<std::vector<model_status>> models) {
          channel->send(list_response(models, admin_model, all));
        });
      });
}

void api::admin_load(const http_request& request, const channel_ptr& channel,
                     const std::string& model) {
  const auto parsed = parse_load_request(request.body);
  if (const auto* error = std::get_if<api_error>(&parsed))
    return channel->send(error_response(*error));
  services_.load({model}, std::get<std::optional<bool>>(parsed),
                 [channel](caf::expected<model_status> status) {
                   channel->send(status_response(status, admin_model));
                 });
}

void api::admin_unload(const http_request&, const channel_ptr& channel, const std::string& model) {
  services_.unload({model}, [channel](caf::expected<model_status> status) {
    channel->send(status_response(status, admin_model));
  });
}

void api::admin_actors(const http_request&, const channel_ptr& channel, const std::string&) {
  services_.actors([channel](caf::expected<std::vector<actor_info>> actors) {
    channel->send(list_response(actors, admin_actor));
  });
}

void api::health(const http_request&, const channel_ptr& channel, const std::string&) {
  channel->send(json_response({{"status", "ok"}}));
}

void api::ready(const http_request&, const channel_ptr& channel, const std::string&) {
  if (!draining_ && services_.ready())
    return channel->send(json_response({{"status", "ready"}}));
  api_error error{503,
                  draining_ ? "The server is shutting down." : "No worker has joined yet.",
                  "server_error",
                  "",
                  draining_ ? "shutting_down" : "no_capacity",
                  {}};
  error.retry_after = std::chrono::seconds{1};
  channel->send(error_response(error));
}

void api::version(const http_request&, const channel_ptr& channel, const std::string&) {
  channel->send(json_response({{"version", TROUPE_VERSION}}));
}

void api::welcome(const http_request&, const channel_ptr& channel, const std::string&) {
  http_response out;
  out.content_type = "text/plain; charset=utf-8";
  out.body = "Troupe " TROUPE_VERSION " serves an OpenAI-compatible API.\n\n";
  if (options_.serves != surface::admin)
    out.body += "  GET  /v1/models            the models that can be asked\n"
                "  POST /v1/chat/completions  chat, streamed or not\n"
                "  POST /v1/completions       plain text completion\n"
                "  POST /tokenize /detokenize text to token ids and back\n";
  out.body += "  GET  /health /ready        for load balancers\n"
              "  GET  /metrics              Prometheus\n"
              "  GET  /version\n";
  if (options_.serves != surface::api)
    out.body += "  GET  /admin/models /admin/actors, POST /admin/models/ID/load|unload\n"
                "  GET  /admin/tenants /admin/usage /admin/requests, GET and PUT /admin/config\n";
  channel->send(std::move(out));
}

} // namespace troupe::gateway
