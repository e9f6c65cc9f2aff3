// Routes about the configuration.
#include <nlohmann/json.hpp>

#include "gateway/api.hpp"
#include "gateway/api_error.hpp"
#include "gateway/configuration.hpp"
#include "gateway/query.hpp"

namespace troupe::gateway {

namespace {

using json = nlohmann::ordered_json;

api_error no_configuration() {
  return {404,
          "This server was started without a configuration that could be shown or changed.",
          "invalid_request_error",
          {},
          "no_configuration",
          {}};
}

http_response put_response(const config_outcome& outcome) {
  if (outcome.status != 200)
    return error_response({outcome.status,
                           outcome.problem,
                           outcome.status < 500 ? "invalid_request_error" : "server_error",
                           {},
                           outcome.status == 400   ? "invalid_config"
                           : outcome.status == 409 ? "cannot_save"
                                                   : "internal_error",
                           {}});
  http_response out;
  out.body = json{{"object", "config"},
                  {"tenants", outcome.tenants},
                  {"saved", outcome.saved},
                  {"not_applied", outcome.not_applied}}
                 .dump();
  return out;
}

} // namespace

void api::admin_config(const http_request&, const channel_ptr& channel, const std::string&) {
  if (!options_.config)
    return channel->send(error_response(no_configuration()));
  options_.config->show([channel](std::string text) {
    http_response out;
    out.content_type = "application/yaml";
    out.body = std::move(text);
    channel->send(std::move(out));
  });
}

void api::admin_put_config(const http_request& request, const channel_ptr& channel,
                           const std::string&) {
  if (!options_.config)
    return channel->send(error_response(no_configuration()));
  const auto save = query_field(request.query, "save");
  if (save && *save != "true" && *save != "false")
    return channel->send(error_response(
        {400, "'save' is true or false.", "invalid_request_error", "save", "invalid_value", {}}));
  if (save == "true" && options_.tenants->open())
    return channel->send(error_response({403,
                                         "A file is replaced for nobody without a key, and this "
                                         "server asks for none: set admin_keys first.",
                                         "permission_error",
                                         "save",
                                         "admin_key_required",
                                         {}}));
  options_.config->put(request.body, save == "true", [channel](const config_outcome& outcome) {
    channel->send(put_response(outcome));
  });
}

} // namespace troupe::gateway
