// Routes about tenants: what was agreed with them, and what they used.
#include <nlohmann/json.hpp>

#include "actors/ledger.hpp"
#include "base/rfc3339.hpp"
#include "gateway/api.hpp"
#include "gateway/api_error.hpp"
#include "gateway/query.hpp"

namespace troupe::gateway {

using json = nlohmann::ordered_json;

namespace {

http_response list_of(json data) {
  http_response out;
  out.body = json{{"object", "list"}, {"data", std::move(data)}}.dump();
  return out;
}

json budget_of(const actors::tenant_usage& usage) {
  if (usage.budget.limit <= 0)
    return nullptr;
  return {{"limit", usage.budget.limit},
          {"spent", usage.spent},
          {"soft", usage.budget.soft * usage.budget.limit},
          {"past_soft", usage.past_soft_limit},
          {"next_relief", format_rfc3339(usage.budget_relief)}};
}

/// Only what there is: most tenants never see most limits.
json refused_by(const actors::tenant_usage& usage) {
  json out = json::object();
  for (size_t i = 0; i < usage.refused_by.size(); ++i)
    if (usage.refused_by[i] > 0)
      out[std::string{policies::name_of(static_cast<policies::quota_kind>(i))}] =
          usage.refused_by[i];
  return out;
}

api_error bad_request(std::string code, std::string param, std::string message) {
  return {400, std::move(message), "invalid_request_error", std::move(param), std::move(code), {}};
}

} // namespace

void api::admin_tenants(const http_request&, const channel_ptr& channel, const std::string&) {
  static constexpr const char* priorities[] = {"interactive", "standard", "batch"};
  json data = json::array();
  for (const auto& one : options_.tenants->all()) {
    const auto agreed = one->terms();
    const auto& terms = *agreed;
    const auto usage =
        one->usage(std::chrono::steady_clock::now(), std::chrono::system_clock::now());
    const json keys = options_.tenants->key_names(*one, std::chrono::system_clock::now());
    data.push_back({{"name", terms.name},
                    {"weight", terms.weight},
                    {"priority", priorities[static_cast<size_t>(terms.priority)]},
                    {"mode", terms.enforce ? "enforce" : "shadow"},
                    {"keys", keys},
                    {"limits",
                     {{"rpm", usage.limits.rpm},
                      {"tpm", usage.limits.tpm},
                      {"concurrency", usage.limits.concurrency},
                      {"max_tokens", terms.max_tokens},
                      {"queue", terms.caps.queue},
                      {"warm_models", terms.caps.warm_models},
                      {"vram", terms.caps.memory_bytes},
                      {"cold_starts_per_hour", terms.caps.cold_starts_per_hour}}},
                    {"budget", budget_of(usage)},
                    {"running", usage.running},
                    {"requests", usage.requests},
                    {"prompt_tokens", usage.prompt_tokens},
                    {"completion_tokens", usage.completion_tokens},
                    {"refused", usage.refused},
                    {"refused_by", refused_by(usage)}});
  }
  channel->send(list_of(std::move(data)));
}

void api::admin_usage(const http_request& request, const channel_ptr& channel, const std::string&) {
  if (!options_.ledger)
    return channel->send(error_response({404,
                                         "This server keeps no ledger: configure tenants and a "
                                         "state_dir.",
                                         "invalid_request_error",
                                         {},
                                         "no_ledger",
                                         {}}));
  storage::hour_point from{};
  if (const auto since = query_field(request.query, "since")) {
    const auto time = parse_rfc3339(*since);
    if (!time)
      return channel->send(error_response(bad_request(
          "invalid_value", "since", "'since' is no time: write it as 2026-01-31T00:00:00Z.")));
    from = std::chrono::floor<std::chrono::hours>(*time);
  }
  options_.ledger->totals(from, [channel](caf::expected<actors::ledger::rows> rows) {
    if (!rows)
      return channel->send(error_response(to_api_error(rows.error())));
    json data = json::array();
    for (const auto& row : *rows)
      data.push_back({{"tenant", row.tenant},
                      {"model", row.model},
                      {"since", format_rfc3339(row.hour)},
                      {"requests", row.requests},
                      {"prompt_tokens", row.prompt_tokens},
                      {"cached_tokens", row.cached_tokens},
                      {"completion_tokens", row.completion_tokens}});
    channel->send(list_of(std::move(data)));
  });
}

} // namespace troupe::gateway
