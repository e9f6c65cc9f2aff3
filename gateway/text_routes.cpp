// Routes that need a model's text side but not its weights.
#include <nlohmann/json.hpp>

#include "engine/errors.hpp"
#include "engine/frontend/frontend.hpp"
#include "gateway/access.hpp"
#include "gateway/api.hpp"
#include "gateway/api_error.hpp"

namespace troupe::gateway {

using json = nlohmann::ordered_json;
using frontend_ptr = std::shared_ptr<const engine::frontend>;

namespace {

api_error invalid_input(std::string param, const caf::error& why) {
  return {400, describe(why), "invalid_request_error", std::move(param), "invalid_value", {}};
}

http_response tokenize_now(const engine::frontend& text, const tokenize_request& request) {
  caf::expected<std::vector<engine::token_id>> tokens{std::vector<engine::token_id>{}};
  std::string param = "prompt";
  if (const auto* chat = std::get_if<actors::chat_prompt>(&request.prompt)) {
    param = "messages";
    tokens = text.encode_chat(chat->messages, chat->extra);
  } else {
    tokens = text.tokens->encode(std::get<actors::text_prompt>(request.prompt).text,
                                 request.add_special_tokens);
  }
  if (!tokens)
    return error_response(invalid_input(std::move(param), tokens.error()));
  json out;
  out["count"] = tokens->size();
  out["max_model_len"] = text.context_length;
  out["tokens"] = std::move(*tokens);
  http_response response;
  response.body = out.dump();
  return response;
}

http_response detokenize_now(const engine::frontend& text, const detokenize_request& request) {
  const auto known = text.tokens->vocab_size();
  for (const auto token : request.tokens)
    if (token < 0 || static_cast<uint64_t>(token) >= static_cast<uint64_t>(known))
      return error_response({400,
                             "Invalid value for 'tokens': " + std::to_string(token) +
                                 " is not a token of this model.",
                             "invalid_request_error",
                             "tokens",
                             "invalid_value",
                             {}});
  json out;
  out["prompt"] = text.tokens->decode(request.tokens, request.skip_special_tokens);
  http_response response;
  response.body = out.dump(-1, ' ', false, json::error_handler_t::replace);
  return response;
}

/// Reads the request, gets the model's text side, and answers from the thread for long work.
template <class Request>
void answer(actors::services& services, const api_options& options, const http_request& request,
            const std::shared_ptr<reply_channel>& channel, result<Request> parsed,
            http_response (*compute)(const engine::frontend&, const Request&)) {
  if (const auto* error = std::get_if<api_error>(&parsed))
    return channel->send(error_response(*error));
  if (const auto error = refuse_model(request, std::get<Request>(parsed).model.text))
    return channel->send(error_response(*error));
  auto wanted = std::make_shared<Request>(std::move(std::get<Request>(parsed)));
  services.frontend(wanted->model, [offload = options.offload, channel, wanted,
                                    compute](caf::expected<frontend_ptr> text) {
    if (!text)
      return channel->send(error_response(to_api_error(text.error())));
    offload([channel, wanted, compute, text = std::move(*text)] {
      channel->send(compute(*text, *wanted));
    });
  });
}

} // namespace

void api::tokenize(const http_request& request, const channel_ptr& channel, const std::string&) {
  answer(services_, options_, request, channel, parse_tokenize_request(request.body), tokenize_now);
}

void api::detokenize(const http_request& request, const channel_ptr& channel, const std::string&) {
  answer(services_, options_, request, channel, parse_detokenize_request(request.body),
         detokenize_now);
}

} // namespace troupe::gateway
