#include "gateway/access.hpp"

#include <cmath>

#include "base/rfc3339.hpp"
#include "base/text.hpp"

namespace troupe::gateway {

using actors::tenant_registry;
using policies::quota_kind;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::string_view bearer_key(std::string_view authorization) {
  constexpr std::string_view scheme = "bearer ";
  if (!equal_ignoring_case(authorization.substr(0, scheme.size()), scheme))
    return {};
  auto key = authorization.substr(scheme.size());
  while (!key.empty() && key.front() == ' ')
    key.remove_prefix(1);
  while (!key.empty() && key.back() == ' ')
    key.remove_suffix(1);
  return key;
}

api_error refuse_key(tenant_registry::verdict why) {
  api_error out{401, {}, "authentication_error", {}, "invalid_api_key", {}};
  switch (why) {
  case tenant_registry::verdict::no_key:
    out.message = "You didn't provide an API key: send it as 'Authorization: Bearer KEY'.";
    out.code = "missing_api_key";
    break;
  case tenant_registry::verdict::expired:
    out.message = "This API key has expired: ask whoever runs this server for a new one.";
    break;
  case tenant_registry::verdict::revoked:
    out.message = "This API key has been revoked: ask whoever runs this server for a new one.";
    break;
  default:
    out.message = "This API key is not known here: check that it is whole and of this server.";
  }
  return out;
}

api_error refuse_admin(bool has_admin_keys) {
  return {403,
          has_admin_keys ? "This API key may not do this: send an admin key."
                         : "Keys are in use, but none of them may do this: set admin_keys in "
                           "the configuration, or make one with `troupe keys create --admin`.",
          "permission_error",
          {},
          "admin_key_required",
          {}};
}

bool may_use(const actors::tenant* who, const actors::issued_key* key, const std::string& model) {
  if (key && key->may_use && !key->may_use(model))
    return false;
  if (!who)
    return true;
  const auto terms = who->terms();
  return !terms->may_use || terms->may_use(model);
}

std::optional<api_error> refuse_model(const http_request& request, const std::string& model) {
  if (may_use(request.tenant.get(), request.key.get(), model))
    return std::nullopt;
  const bool tenant_may = may_use(request.tenant.get(), nullptr, model);
  return api_error{403,
                   (tenant_may ? "This API key" : "Tenant '" + request.tenant->name() + "'") +
                       " may not use the model `" + model +
                       "`: GET /v1/models lists what is served.",
                   "permission_error",
                   "model",
                   "model_not_allowed",
                   {}};
}

actors::failure over_limit(const actors::tenant& who, const policies::quota_refusal& why) {
  const auto terms = who.terms();
  const auto& limits = terms->limits;
  const auto wait = std::max(std::chrono::ceil<seconds>(why.retry_after), seconds{1});
  actors::failure out{actors::failure_kind::rate_limited, {}, {}, wait};
  const auto again = " Please try again in " + reset_text(wait) + ".";
  switch (why.kind) {
  case quota_kind::requests:
    out.message = "Rate limit reached for '" + who.name() + "': " + std::to_string(limits.rpm) +
                  " requests per minute." + again;
    break;
  case quota_kind::concurrency:
    out.kind = actors::failure_kind::too_many_at_once;
    out.message = "'" + who.name() + "' has " + std::to_string(limits.concurrency) +
                  " requests under way, as many as it may." + again;
    break;
  case quota_kind::tokens:
    out.message = "Rate limit reached for '" + who.name() + "': " + std::to_string(limits.tpm) +
                  " tokens per minute." + again;
    if (!why.ever) {
      out.kind = actors::failure_kind::beyond_quota;
      out.retry_after.reset();
      out.message = "The prompt and the longest answer together exceed the " +
                    std::to_string(limits.tpm) + " tokens per minute of '" + who.name() +
                    "': shorten the prompt or lower max_tokens.";
    }
    break;
  case quota_kind::budget:
    out.kind = actors::failure_kind::budget_spent;
    out.retry_after.reset();
    out.message = "The budget of '" + who.name() + "' is spent. It has room again at " +
                  format_rfc3339(std::chrono::ceil<seconds>(std::chrono::system_clock::now() +
                                                            why.retry_after)) +
                  "; whoever runs this server can raise it.";
    break;
  case quota_kind::answer: // these are refused elsewhere
  case quota_kind::queue:
  case quota_kind::warm_models:
  case quota_kind::memory:
  case quota_kind::cold_starts:
    out.kind = actors::failure_kind::tenant_cap;
    out.limit = why.kind;
    out.message = "'" + who.name() + "' is over its limit " +
                  std::string{policies::name_of(why.kind)} + "." + again;
    break;
  }
  return out;
}

std::string reset_text(duration time) {
  const auto ms = std::chrono::ceil<milliseconds>(time).count();
  if (ms < 1000)
    return std::to_string(ms) + "ms";
  const auto minutes = ms / 60'000, rest = ms % 60'000;
  auto out = minutes > 0 ? std::to_string(minutes) + "m" : std::string{};
  out += std::to_string(rest / 1000);
  if (rest % 1000 != 0) {
    auto part = std::to_string(1000 + rest % 1000).substr(1);
    part.erase(part.find_last_not_of('0') + 1);
    out += "." + part;
  }
  return out + "s";
}

void show_limits(const actors::tenant& who, reply_channel& channel, instant now) {
  const auto usage = who.usage(now, std::chrono::system_clock::now());
  const auto show = [&](const char* name, uint64_t limit, uint64_t left, duration reset) {
    const auto set = [&](const char* what, std::string value) {
      channel.set_header(std::string{"x-ratelimit-"} + what + "-" + name, std::move(value));
    };
    if (limit == 0)
      return;
    set("limit", std::to_string(limit));
    set("remaining", std::to_string(left));
    set("reset", reset_text(reset));
  };
  show("requests", usage.limits.rpm, usage.requests_left, usage.requests_reset);
  show("tokens", usage.limits.tpm, usage.tokens_left, usage.tokens_reset);
  if (usage.past_soft_limit)
    channel.set_header("x-troupe-budget-warning",
                       std::to_string(static_cast<int>(100 * usage.spent / usage.budget.limit)) +
                           "% of the budget is spent");
}

} // namespace troupe::gateway
