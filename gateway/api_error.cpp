#include "gateway/api_error.hpp"

#include <algorithm>

#include "actors/errors.hpp"
#include "gateway/json_text.hpp"

namespace troupe::gateway {

using actors::failure_kind;
using policies::quota_kind;
using std::chrono::seconds;

namespace {

/// Clients do not retry at all when told to wait longer.
constexpr seconds retry_after_max{120};

void append_or_null(std::string& out, const std::string& text) {
  if (text.empty())
    out += "null";
  else
    append_json_string(out, text);
}

api_error server_error(int status, std::string code, const actors::failure& why,
                       std::optional<seconds> retry_after) {
  api_error out{status, why.message, "server_error", why.param, std::move(code), {}};
  out.retry_after = why.retry_after ? why.retry_after : retry_after;
  return out;
}

api_error client_error(int status, std::string code, const actors::failure& why) {
  return {status, why.message, "invalid_request_error", why.param, std::move(code), {}};
}

std::string cap_code(const actors::failure& why) {
  switch (why.limit.value_or(quota_kind::queue)) {
  case quota_kind::warm_models:
    return "warm_models_limit";
  case quota_kind::memory:
    return "memory_limit";
  case quota_kind::cold_starts:
    return "cold_starts_limit";
  default:
    return "queue_limit";
  }
}

} // namespace

std::string error_body(const api_error& error) {
  std::string out = R"({"error":{"message":)";
  append_json_string(out, error.message);
  out += R"(,"type":)";
  append_json_string(out, error.type);
  out += R"(,"param":)";
  append_or_null(out, error.param);
  out += R"(,"code":)";
  append_or_null(out, error.code);
  out += "}}";
  return out;
}

http_response error_response(const api_error& error) {
  http_response out;
  out.status = error.status;
  out.body = error_body(error);
  bool worth_retrying = error.worth_retrying;
  if (error.retry_after) {
    // What is an estimate is kept within what clients obey. A limit says the truth, and that they
    // need not try before.
    auto wait = std::max(*error.retry_after, seconds{1});
    if (error.status != 429)
      wait = std::min(wait, retry_after_max);
    worth_retrying = worth_retrying && wait <= retry_after_max;
    out.headers.emplace_back("retry-after", std::to_string(wait.count()));
    out.headers.emplace_back("retry-after-ms", std::to_string(wait.count() * 1000));
  }
  if (!worth_retrying)
    out.headers.emplace_back("x-should-retry", "false");
  return out;
}

api_error to_api_error(const actors::failure& why) {
  switch (why.kind) {
  case failure_kind::invalid_request:
    return client_error(400, "invalid_value", why);
  case failure_kind::context_length_exceeded:
    return client_error(400, "context_length_exceeded", why);
  case failure_kind::unsupported:
    return client_error(400, "unsupported_parameter", why);
  case failure_kind::model_not_found: {
    auto out = client_error(404, "model_not_found", why);
    if (out.param.empty())
      out.param = "model";
    return out;
  }
  case failure_kind::queue_full:
    return server_error(503, "queue_full", why, seconds{1});
  case failure_kind::no_capacity:
    return server_error(503, "no_capacity", why, seconds{5});
  case failure_kind::load_failed: {
    // With a time to retry it was a matter of the moment; without, the files are broken and a
    // second try would only load them again.
    if (why.retry_after)
      return server_error(503, "model_loading", why, {});
    auto out = server_error(500, "model_load_failed", why, {});
    out.worth_retrying = false;
    return out;
  }
  case failure_kind::shutting_down:
    return server_error(503, "shutting_down", why, seconds{5});
  case failure_kind::timed_out:
    return server_error(504, "timeout", why, {});
  case failure_kind::cancelled:
    return server_error(500, "cancelled", why, {});
  case failure_kind::rate_limited:
  case failure_kind::too_many_at_once:
  case failure_kind::beyond_quota: {
    const bool places = why.kind == failure_kind::too_many_at_once;
    api_error out{429,
                  why.message,
                  "rate_limit_error",
                  why.param,
                  places ? "concurrency_limit" : "rate_limit_exceeded",
                  {}};
    out.retry_after = why.retry_after;
    out.worth_retrying = why.kind != failure_kind::beyond_quota;
    return out;
  }
  case failure_kind::tenant_cap:
    return {429,           why.message,     "rate_limit_error",         why.param,
            cap_code(why), why.retry_after, why.retry_after.has_value()};
  case failure_kind::budget_spent:
    return {429, why.message, "insufficient_quota", why.param, "insufficient_quota", {}, false};
  case failure_kind::internal:
    break;
  }
  return server_error(500, "internal_error", why, {});
}

api_error to_api_error(const caf::error& why) {
  actors::failure out;
  out.message = describe(why);
  if (why == actors::errc::model_not_found)
    out.kind = failure_kind::model_not_found;
  else if (why == actors::errc::shutting_down)
    out.kind = failure_kind::shutting_down;
  else if (why == actors::errc::no_capacity)
    out.kind = failure_kind::no_capacity;
  else if (why == actors::errc::timed_out)
    out.kind = failure_kind::timed_out;
  else if (why == actors::errc::load_failed || why == actors::errc::files_broken)
    out.kind = failure_kind::load_failed;
  if (why == actors::errc::load_failed)
    out.retry_after = seconds{5};
  return to_api_error(out);
}

} // namespace troupe::gateway
