// Which handler a request goes to, and what is refused before any handler sees it.
#include "gateway/api.hpp"

#include <algorithm>
#include <mutex>
#include <optional>

#include <spdlog/spdlog.h>

#include "base/text.hpp"
#include "gateway/access.hpp"
#include "gateway/api_error.hpp"
#include "gateway/sinks.hpp"

namespace troupe::gateway {

namespace {

/// Whose key a route needs, once there are keys.
enum class key_of : uint8_t { nobody, anybody, admin };

constexpr auto everywhere = surface::everything, on_api = surface::api, on_admin = surface::admin;

} // namespace

/// A path, or a prefix and a suffix around a model id, which may hold slashes.
struct api::route {
  std::string_view method;
  std::string_view prefix;
  std::string_view suffix;
  surface where; ///< which listeners have it
  key_of needs;
  std::string_view label;
  handler handle;
  bool takes_model = false;
  bool takes_json = false;
  bool is_work = false; ///< refused while draining
};

// Longer matches come before shorter ones.
const api::route api::routes[] = {
    {"POST", "/v1/chat/completions", "", on_api, key_of::anybody, "/v1/chat/completions",
     &api::chat_completions, false, true, true},
    {"POST", "/v1/completions", "", on_api, key_of::anybody, "/v1/completions", &api::completions,
     false, true, true},
    {"POST", "/tokenize", "", on_api, key_of::anybody, "/tokenize", &api::tokenize, false, true,
     true},
    {"POST", "/detokenize", "", on_api, key_of::anybody, "/detokenize", &api::detokenize, false,
     true, true},
    {"GET", "/v1/models", "", on_api, key_of::anybody, "/v1/models", &api::list_models},
    {"GET", "/v1/models/", "", on_api, key_of::anybody, "/v1/models/{id}", &api::retrieve_model,
     true, false, false},
    {"GET", "/", "", everywhere, key_of::anybody, "/", &api::welcome},
    {"GET", "/health", "", everywhere, key_of::nobody, "/health", &api::health},
    {"GET", "/ready", "", everywhere, key_of::nobody, "/ready", &api::ready},
    {"GET", "/version", "", everywhere, key_of::anybody, "/version", &api::version},
    {"GET", "/metrics", "", everywhere, key_of::admin, "/metrics", &api::metrics},
    {"GET", "/admin/models", "", on_admin, key_of::admin, "/admin/models", &api::admin_models},
    {"POST", "/admin/models/", "/load", on_admin, key_of::admin, "/admin/models/{id}/load",
     &api::admin_load, true, true, true},
    {"POST", "/admin/models/", "/unload", on_admin, key_of::admin, "/admin/models/{id}/unload",
     &api::admin_unload, true, false, false},
    {"GET", "/admin/requests", "", on_admin, key_of::admin, "/admin/requests",
     &api::admin_requests},
    {"GET", "/admin/requests/", "", on_admin, key_of::admin, "/admin/requests/{id}",
     &api::admin_request, true, false, false},
    {"GET", "/admin/usage", "", on_admin, key_of::admin, "/admin/usage", &api::admin_usage},
    {"GET", "/admin/tenants", "", on_admin, key_of::admin, "/admin/tenants", &api::admin_tenants},
    {"GET", "/admin/actors", "", on_admin, key_of::admin, "/admin/actors", &api::admin_actors},
    {"GET", "/admin/config", "", on_admin, key_of::admin, "/admin/config", &api::admin_config},
    {"PUT", "/admin/config", "", on_admin, key_of::admin, "/admin/config", &api::admin_put_config},
};

namespace {

api_error client_error(int status, std::string code, std::string message) {
  return {status, std::move(message), "invalid_request_error", "", std::move(code), {}};
}

/// What stands between prefix and suffix, or nothing when the path is another.
std::optional<std::string_view> match(std::string_view path, std::string_view prefix,
                                      std::string_view suffix, bool takes_model) {
  if (!takes_model)
    return path == prefix ? std::optional{std::string_view{}} : std::nullopt;
  if (!path.starts_with(prefix) || !path.ends_with(suffix) ||
      path.size() <= prefix.size() + suffix.size())
    return std::nullopt;
  return path.substr(prefix.size(), path.size() - prefix.size() - suffix.size());
}

/// An absent type is taken for JSON; what a form or a page of another origin can send is not.
std::optional<api_error> check_media_type(const http_request& request) {
  const auto& encoding = request.content_encoding;
  if (!encoding.empty() && !equal_ignoring_case(encoding, "identity"))
    return client_error(
        415, "unsupported_media_type",
        "Request bodies with 'Content-Encoding' are not supported: send plain JSON.");
  auto type = std::string_view{request.content_type}.substr(0, request.content_type.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t'))
    type.remove_suffix(1);
  if (type.empty() || equal_ignoring_case(type, "application/json"))
    return std::nullopt;
  return client_error(415, "unsupported_media_type",
                      "Unsupported 'Content-Type': send the request as 'application/json' (curl: "
                      "-H 'Content-Type: application/json').");
}

api_error draining_error() {
  api_error out{503,
                "The server is shutting down and takes no new requests.",
                "server_error",
                "",
                "shutting_down",
                {}};
  out.retry_after = std::chrono::seconds{5};
  return out;
}

/// Stops a request as soon as it is known, also when asked before.
class cancellation {
public:
  void cancel() {
    const std::lock_guard guard{lock_};
    cancelled_ = true;
    if (running_)
      running_->cancel();
  }
  void of(std::shared_ptr<actors::invocation_handle> running) {
    const std::lock_guard guard{lock_};
    running_ = std::move(running);
    if (cancelled_ && running_)
      running_->cancel();
  }

private:
  std::mutex lock_;
  std::shared_ptr<actors::invocation_handle> running_;
  bool cancelled_ = false;
};

void start(actors::services& services, actors::invocation_request invocation,
           std::shared_ptr<actors::reply_sink> sink, const std::shared_ptr<reply_channel>& channel,
           std::shared_ptr<cancellation> running) {
  if (!running)
    running = std::make_shared<cancellation>();
  running->of(services.invoke(std::move(invocation), std::move(sink)));
  channel->on_gone([running] { running->cancel(); });
}

/// Applies a tenant's terms to its request. `model` is the one that accounts name, whatever the
/// client called it.
result<admitted_request> admit(const http_request& request, actors::invocation_request& invocation,
                               uint32_t choices, model_id model) {
  const auto agreed = request.tenant->terms();
  const auto& terms = *agreed;
  if (auto error = refuse_model(request, invocation.model.text))
    return std::move(*error);
  auto& sampling = invocation.sampling;
  if (terms.max_tokens > 0 && sampling.max_tokens.value_or(0) > terms.max_tokens) {
    request.tenant->note_refused(policies::quota_kind::answer);
    if (terms.enforce)
      return api_error{400,
                       "'" + terms.name + "' may ask for answers of " +
                           std::to_string(terms.max_tokens) + " tokens at most.",
                       "invalid_request_error",
                       "max_tokens",
                       "invalid_value",
                       {}};
  }
  if (terms.max_tokens > 0 && terms.enforce)
    sampling.max_tokens_allowed = terms.max_tokens;
  auto ticket = actors::quota_ticket::begin(request.tenant, std::chrono::steady_clock::now(),
                                            std::chrono::system_clock::now());
  if (const auto* why = std::get_if<policies::quota_refusal>(&ticket))
    return to_api_error(over_limit(*request.tenant, *why));
  invocation.tenant = terms.name;
  invocation.tenant_weight = terms.weight;
  invocation.priority = terms.priority;
  invocation.caps = terms.caps;
  invocation.caps.enforce = terms.enforce;
  admitted_request out;
  out.who = request.tenant;
  out.model = std::move(model.text);
  out.ticket = std::move(std::get<std::unique_ptr<actors::quota_ticket>>(ticket));
  // Where nobody says how long an answer may get, a quarter of a minute's tokens is kept for it.
  const auto unsaid = std::min<uint64_t>(1024, std::max<uint64_t>(1, terms.limits.tpm / 4));
  out.answer_max =
      choices * uint64_t{sampling.max_tokens           ? *sampling.max_tokens
                         : sampling.max_tokens_allowed ? *sampling.max_tokens_allowed
                                                       : static_cast<uint32_t>(unsaid)};
  return out;
}

} // namespace

api::api(actors::services& services, api_options options)
    : services_{services}, options_{std::move(options)} {}

void api::handle(http_request request, channel_ptr channel) {
  std::string_view path = request.path;
  if (path.size() > 1 && path.ends_with('/'))
    path.remove_suffix(1);
  std::string allowed;
  for (const auto& candidate : routes) {
    if (candidate.where != surface::everything && options_.serves != surface::everything &&
        candidate.where != options_.serves)
      continue; // another listener has it
    const auto middle = match(path, candidate.prefix, candidate.suffix, candidate.takes_model);
    if (!middle)
      continue;
    const bool reads = candidate.method == "GET";
    const auto method =
        reads && request.method == "HEAD" ? "GET" : std::string_view{request.method};
    if (method != candidate.method) {
      allowed +=
          (allowed.empty() ? "" : ", ") + std::string{candidate.method} + (reads ? ", HEAD" : "");
      continue;
    }
    channel->set_route(candidate.label);
    std::string model;
    if (!percent_decode(*middle, model))
      return channel->send(error_response(
          client_error(400, "invalid_value", "The path holds a broken percent escape.")));
    if (!let_in(candidate, request, channel))
      return;
    if (candidate.is_work && draining_)
      return channel->send(error_response(draining_error()));
    if (candidate.takes_json)
      if (const auto error = check_media_type(request))
        return channel->send(error_response(*error));
    return (this->*candidate.handle)(request, channel, model);
  }
  if (allowed.empty())
    return channel->send(error_response(client_error(404, "unknown_url",
                                                     "Unknown request URL: " + request.method +
                                                         " " + request.path.substr(0, 200) +
                                                         ". GET / lists what is served.")));
  allowed += ", OPTIONS";
  http_response out;
  if (request.method == "OPTIONS") {
    out.status = 204;
    out.content_type.clear();
  } else {
    out = error_response(client_error(405, "method_not_allowed",
                                      "Not allowed: " + request.method + " " +
                                          request.path.substr(0, 200) + ". Use " + allowed + "."));
  }
  out.headers.emplace_back("allow", allowed);
  channel->send(std::move(out));
}

/// Every route but those for load balancers needs a key once there are keys.
bool api::let_in(const route& to, http_request& request, const channel_ptr& channel) {
  if (to.needs == key_of::nobody || (to.handle == &api::metrics && options_.metrics_open))
    return true;
  using verdict = actors::tenant_registry::verdict;
  const auto found = options_.tenants->authenticate(bearer_key(request.authorization),
                                                    std::chrono::system_clock::now());
  request.authorization.clear();
  if (found.what != verdict::welcome) {
    channel->set_header("www-authenticate", "Bearer");
    channel->send(error_response(refuse_key(found.what)));
    return false;
  }
  if (to.needs == key_of::admin && !found.admin) {
    channel->send(error_response(refuse_admin(options_.tenants->has_admin_keys())));
    return false;
  }
  request.tenant = found.who;
  request.key = found.key;
  if (found.who)
    show_limits(*found.who, *channel, std::chrono::steady_clock::now());
  return true;
}

void api::chat_completions(const http_request& request, const channel_ptr& channel,
                           const std::string&) {
  generate(request, channel, true);
}

void api::completions(const http_request& request, const channel_ptr& channel, const std::string&) {
  generate(request, channel, false);
}

void api::generate(const http_request& request, const channel_ptr& channel, bool chat) {
  auto parsed = chat ? parse_chat_request(request.body, options_.limits)
                     : parse_completion_request(request.body, options_.limits);
  if (const auto* error = std::get_if<api_error>(&parsed))
    return channel->send(error_response(*error));
  auto& wanted = std::get<openai_request>(parsed);
  if (!wanted.unknown_fields.empty() && spdlog::should_log(spdlog::level::debug))
    for (const auto& name : wanted.unknown_fields)
      spdlog::debug("{}: unknown field '{}' is ignored", request.id, name.substr(0, 100));
  auto& invocation = wanted.invocation;
  invocation.id.text = request.id;
  invocation.received = request.received;
  invocation.timeout = options_.request_timeout;
  answer_shape shape;
  shape.identity = make_identity(chat, invocation.model.text);
  invocation.answer_id = shape.identity.id;
  shape.choices = static_cast<uint32_t>(invocation.prompts.size()) * invocation.n;
  shape.logprobs = invocation.sampling.top_logprobs >= 0;
  shape.include_usage = wanted.include_usage;
  shape.stream = wanted.stream;
  shape.ending = std::make_shared<std::optional<api_error>>();
  auto sink = wanted.stream ? make_stream_sink(channel, shape) : make_whole_sink(channel, shape);
  if (!request.tenant)
    return start(services_, std::move(invocation), std::move(sink), channel, nullptr);
  auto let = admit(request, invocation, shape.choices, services_.canonical(invocation.model));
  if (const auto* error = std::get_if<api_error>(&let)) {
    show_limits(*request.tenant, *channel, std::chrono::steady_clock::now());
    return channel->send(error_response(*error));
  }
  auto& admitted = std::get<admitted_request>(let);
  admitted.channel = channel;
  admitted.choices = shape.choices;
  admitted.ending = shape.ending;
  const auto running = std::make_shared<cancellation>();
  admitted.cancel = [running] { running->cancel(); };
  start(services_, std::move(invocation), make_quota_sink(std::move(sink), std::move(admitted)),
        channel, running);
}

} // namespace troupe::gateway
