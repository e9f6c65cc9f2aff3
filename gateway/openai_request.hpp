#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/request.hpp"
#include "gateway/api_error.hpp"
#include "gateway/fields.hpp"

namespace troupe::gateway {

struct request_limits {
  uint32_t n_max = 128;
  uint32_t prompts_max = 1024; ///< in one completions request
  uint32_t choices_max = 1024; ///< prompts * n
};

/// A generation request as the client wrote it, checked.
struct openai_request {
  actors::invocation_request invocation; ///< id, tenant and timeout are the caller's to fill
  bool chat = true;
  bool stream = false;
  bool include_usage = false;
  std::vector<std::string> unknown_fields; ///< accepted and not used
};

/// Body of POST /v1/chat/completions.
result<openai_request> parse_chat_request(std::string_view body, const request_limits& limits);

/// Body of POST /v1/completions.
result<openai_request> parse_completion_request(std::string_view body,
                                                const request_limits& limits);

/// Body of POST /tokenize: `prompt` or `messages`.
struct tokenize_request {
  model_id model;
  actors::prompt prompt; ///< chat_prompt or text_prompt
  bool add_special_tokens = true;
};
result<tokenize_request> parse_tokenize_request(std::string_view body);

/// Body of POST /detokenize.
struct detokenize_request {
  model_id model;
  std::vector<engine::token_id> tokens;
  bool skip_special_tokens = false;
};
result<detokenize_request> parse_detokenize_request(std::string_view body);

/// Body of POST /admin/models/{id}/load, which may be empty.
result<std::optional<bool>> parse_load_request(std::string_view body);

/// "5m", "1h30m", "-1", or what a number of seconds means; negative = for ever.
std::optional<std::chrono::milliseconds> parse_keep_alive(std::string_view text);

/// Parts of the above. Problems are left in `fields`.
void read_sampling(field_reader& fields, actors::invocation_request& out,
                   const request_limits& limits);
void read_keep_alive(field_reader& fields, actors::invocation_request& out);
void read_stream_options(field_reader& fields, openai_request& out);
/// messages, tools and what goes to the chat template with them.
actors::chat_prompt read_chat(field_reader& fields);
/// Token ids in an array that holds nothing else.
std::vector<engine::token_id> read_token_ids(field_reader& fields, std::string_view name,
                                             const json& array);

} // namespace troupe::gateway
