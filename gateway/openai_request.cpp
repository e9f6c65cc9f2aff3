#include "gateway/openai_request.hpp"

#include "gateway/json_input.hpp"

namespace troupe::gateway {

namespace {

/// What the OpenAI API takes for a completion that names no limit.
constexpr uint32_t completion_tokens_default = 16;

void check_response_format(field_reader& fields) {
  const auto* format = fields.object("response_format");
  if (!format)
    return;
  field_reader inner{*format, "response_format."};
  const auto& type = inner.required_text("type");
  if (!inner.failed() && (type == "json_object" || type == "json_schema"))
    inner.fail("type",
               "'" + type +
                   "' as 'response_format' is not supported yet: ask for JSON in the "
                   "prompt and use 'text'.",
               "unsupported_parameter");
  else if (!inner.failed() && type != "text")
    inner.fail("type", "Invalid value for 'response_format.type': use 'text'.", "invalid_value");
  if (inner.failed())
    fields.fail(*inner.error());
}

void check_modalities(field_reader& fields) {
  const auto* modalities = fields.array("modalities");
  for (size_t i = 0; modalities && i < modalities->size(); ++i)
    if ((*modalities)[i] != "text")
      return fields.fail("modalities", "Only the modality 'text' is supported.",
                         "unsupported_parameter");
}

void read_chat_logprobs(field_reader& fields, actors::sampling_request& out) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, 20);
  if (top && *top > 0 && !wanted)
    return fields.fail("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.",
                       "invalid_value");
  if (wanted)
    out.top_logprobs = static_cast<int32_t>(top.value_or(0));
}

/// A string, an array of strings, token ids, or an array of arrays of token ids.
std::vector<actors::prompt> read_prompts(field_reader& fields, const request_limits& limits) {
  constexpr auto wanted = "a string, an array of strings, or an array of token ids";
  const auto* prompt = fields.any("prompt");
  if (!prompt) {
    fields.fail("prompt", "Missing required parameter: 'prompt'.", "missing_required_parameter");
    return {};
  }
  if (prompt->is_string())
    return {actors::text_prompt{prompt->get<std::string>()}};
  if (!prompt->is_array()) {
    fields.wrong_type("prompt", *prompt, wanted);
    return {};
  }
  if (prompt->empty()) {
    fields.fail("prompt", "Invalid value for 'prompt': the array is empty.", "invalid_value");
    return {};
  }
  if (prompt->front().is_number())
    return {actors::token_prompt{read_token_ids(fields, "prompt", *prompt)}};
  if (prompt->size() > limits.prompts_max) {
    fields.fail("prompt",
                "Invalid value for 'prompt': more than " + std::to_string(limits.prompts_max) +
                    " prompts in one request.",
                "invalid_value");
    return {};
  }
  std::vector<actors::prompt> out;
  for (const auto& one : *prompt) {
    if (one.is_string())
      out.push_back(actors::text_prompt{one.get<std::string>()});
    else if (one.is_array())
      out.push_back(actors::token_prompt{read_token_ids(fields, "prompt", one)});
    else
      fields.wrong_type("prompt", one, wanted);
  }
  return out;
}

void read_completion_logprobs(field_reader& fields, actors::sampling_request& out) {
  if (const auto top = fields.integer("logprobs", 0, 20))
    out.top_logprobs = static_cast<int32_t>(*top);
}

void read_best_of(field_reader& fields, const actors::invocation_request& request) {
  const auto best_of = fields.integer("best_of", 1, INT32_MAX);
  if (best_of && *best_of != request.n)
    fields.fail("best_of", "'best_of' other than 'n' is not supported.", "unsupported_parameter");
}

/// The checks that need the whole request.
result<openai_request> finish(field_reader& fields, openai_request out,
                              const request_limits& limits) {
  const auto choices = out.invocation.prompts.size() * out.invocation.n;
  if (choices > limits.choices_max)
    fields.fail("n",
                "The request asks for " + std::to_string(choices) + " choices; at most " +
                    std::to_string(limits.choices_max) + " are allowed.",
                "invalid_value");
  if (fields.failed())
    return *fields.error();
  out.unknown_fields = fields.unread();
  return out;
}

} // namespace

result<openai_request> parse_chat_request(std::string_view body, const request_limits& limits) {
  const auto parsed = parse_json_object(body);
  if (const auto* error = std::get_if<api_error>(&parsed))
    return *error;
  field_reader fields{std::get<json>(parsed)};
  openai_request out;
  out.invocation.model.text = fields.required_text("model");
  out.invocation.prompts.push_back(read_chat(fields));
  read_sampling(fields, out.invocation, limits);
  read_chat_logprobs(fields, out.invocation.sampling);
  read_stream_options(fields, out);
  check_response_format(fields);
  check_modalities(fields);
  // Accepted for compatibility; nothing here depends on them.
  for (const auto* name :
       {"store", "metadata", "service_tier", "prompt_cache_key", "safety_identifier"})
    fields.ignore(name);
  return finish(fields, std::move(out), limits);
}

result<openai_request> parse_completion_request(std::string_view body,
                                                const request_limits& limits) {
  const auto parsed = parse_json_object(body);
  if (const auto* error = std::get_if<api_error>(&parsed))
    return *error;
  field_reader fields{std::get<json>(parsed)};
  openai_request out;
  out.chat = false;
  out.invocation.model.text = fields.required_text("model");
  out.invocation.prompts = read_prompts(fields, limits);
  read_sampling(fields, out.invocation, limits);
  if (!out.invocation.sampling.max_tokens && !fields.any("max_tokens"))
    out.invocation.sampling.max_tokens = completion_tokens_default;
  read_completion_logprobs(fields, out.invocation.sampling);
  read_stream_options(fields, out);
  check_response_format(fields);
  read_best_of(fields, out.invocation);
  out.invocation.echo = fields.boolean("echo").value_or(false);
  if (const auto* suffix = fields.text("suffix"); suffix && !suffix->empty())
    fields.fail("suffix", "'suffix' is not supported.", "unsupported_parameter");
  return finish(fields, std::move(out), limits);
}

result<tokenize_request> parse_tokenize_request(std::string_view body) {
  const auto parsed = parse_json_object(body);
  if (const auto* error = std::get_if<api_error>(&parsed))
    return *error;
  field_reader fields{std::get<json>(parsed)};
  tokenize_request out;
  out.model.text = fields.required_text("model");
  out.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  if (const auto* text = fields.text("prompt"))
    out.prompt = actors::text_prompt{*text};
  else if (fields.any("messages"))
    out.prompt = read_chat(fields);
  else
    fields.fail("prompt", "Missing required parameter: 'prompt' or 'messages'.",
                "missing_required_parameter");
  if (fields.failed())
    return *fields.error();
  return out;
}

result<detokenize_request> parse_detokenize_request(std::string_view body) {
  const auto parsed = parse_json_object(body);
  if (const auto* error = std::get_if<api_error>(&parsed))
    return *error;
  field_reader fields{std::get<json>(parsed)};
  detokenize_request out;
  out.model.text = fields.required_text("model");
  out.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(false);
  if (const auto* tokens = fields.array("tokens"))
    out.tokens = read_token_ids(fields, "tokens", *tokens);
  else
    fields.fail("tokens", "Missing required parameter: 'tokens'.", "missing_required_parameter");
  if (fields.failed())
    return *fields.error();
  return out;
}

result<std::optional<bool>> parse_load_request(std::string_view body) {
  if (body.find_first_not_of(" \t\r\n") == body.npos)
    return std::optional<bool>{};
  const auto parsed = parse_json_object(body);
  if (const auto* error = std::get_if<api_error>(&parsed))
    return *error;
  field_reader fields{std::get<json>(parsed)};
  const auto pin = fields.boolean("pin");
  if (fields.failed())
    return *fields.error();
  return pin;
}

} // namespace troupe::gateway
