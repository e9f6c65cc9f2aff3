// What became of requests: foreseen and real. `troupe explain` reads it.
#include <nlohmann/json.hpp>

#include "base/rfc3339.hpp"
#include "gateway/api.hpp"
#include "gateway/api_error.hpp"

namespace troupe::gateway {

using json = nlohmann::ordered_json;
using actors::request_record;
using actors::request_state;

namespace {

/// Newest requests that a list shows.
constexpr size_t list_max = 100;

std::string_view state_name(request_state state) {
  switch (state) {
  case request_state::running:
    return "running";
  case request_state::finished:
    return "finished";
  case request_state::failed:
    return "failed";
  case request_state::cancelled:
    return "cancelled";
  }
  return "";
}

json tiers(const policies::tier_bytes& bytes) {
  static constexpr const char* names[] = {"source",      "disk",       "pool",
                                          "disk_mapped", "page_cache", "device"};
  static_assert(std::size(names) == policies::load_tier_count);
  json out = json::object();
  for (size_t i = 0; i < bytes.size(); ++i)
    out[names[i]] = static_cast<uint64_t>(bytes[i]);
  return out;
}

json forecast_of(const request_record& x) {
  if (!x.forecast)
    return {};
  const auto& f = *x.forecast;
  return {{"model_state", f.state},       {"bytes", tiers(f.bytes)},
          {"queue_seconds", f.queue},     {"load_seconds", f.load},
          {"prefill_seconds", f.prefill}, {"first_token_seconds", f.first_token}};
}

json load_of(const request_record& x) {
  if (!x.load)
    return {};
  const auto& took = x.load->seconds;
  return {{"bytes", tiers(x.load->bytes)}, {"source", x.load->source},
          {"queue_seconds", took.queued},  {"fetch_seconds", took.fetch},
          {"read_seconds", took.read},     {"bind_seconds", took.bind},
          {"total_seconds", took.total}};
}

json render(const request_record& x) {
  json out;
  out["id"] = x.id.text;
  out["answer_id"] = x.answer_id;
  out["model"] = x.model.text;
  out["tenant"] = x.tenant;
  out["received"] = format_rfc3339(x.received);
  out["state"] = state_name(x.state);
  out["failure"] = x.failure;
  out["worker"] = x.worker;
  out["choices"] = x.choices;
  out["forecast"] = forecast_of(x);
  out["admission_seconds"] = x.admission;
  out["text_seconds"] = x.text;
  out["queue_seconds"] = x.queued;
  out["load"] = load_of(x);
  out["prefill_seconds"] = x.prefill;
  out["first_token_seconds"] = x.first_token;
  out["total_seconds"] = x.total;
  out["decode_tokens_per_second"] = x.decode_rate();
  out["prompt_tokens"] = x.prompt_tokens;
  out["cached_tokens"] = x.cached_tokens;
  out["completion_tokens"] = x.completion_tokens;
  out["preemptions"] = x.preemptions;
  out["worker_changes"] = x.worker_changes;
  out["prediction_error"] =
      x.forecast && x.first_token > 0 ? json(x.forecast->first_token / x.first_token - 1) : json{};
  return out;
}

http_response json_response(const json& value) {
  http_response out;
  out.body = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return out;
}

} // namespace

void api::admin_requests(const http_request&, const channel_ptr& channel, const std::string&) {
  json out{{"object", "list"}, {"data", json::array()}};
  for (const auto& one : services_.requests(list_max))
    out["data"].push_back(render(one));
  channel->send(json_response(out));
}

void api::admin_request(const http_request&, const channel_ptr& channel, const std::string& id) {
  if (const auto found = services_.request(id))
    return channel->send(json_response(render(*found)));
  channel->send(error_response({404,
                                "No request '" + id.substr(0, 100) +
                                    "' is remembered: the server keeps the last ones only "
                                    "(request_history), and GET /admin/requests lists the newest.",
                                "invalid_request_error",
                                "",
                                "request_not_found",
                                {}}));
}

} // namespace troupe::gateway
