// Everything that reads what a client sent: the HTTP framing and the bodies of every route. The
// first byte picks the reader. Accepted requests must keep what the rest of the node relies on.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>

#include "gateway/openai_request.hpp"
#include "gateway/wire_guard.hpp"

namespace gateway = troupe::gateway;

namespace {

void require(bool holds) {
  if (!holds)
    std::abort();
}

void check_error(const gateway::api_error& error) {
  require(error.status >= 400 && error.status < 500);
  require(!error.message.empty());
  require(gateway::error_body(error).starts_with("{\"error\":{"));
}

void check_request(const gateway::result<gateway::openai_request>& parsed) {
  if (const auto* error = std::get_if<gateway::api_error>(&parsed))
    return check_error(*error);
  const auto& request = std::get<gateway::openai_request>(parsed).invocation;
  const gateway::request_limits limits;
  require(!request.prompts.empty() && request.n >= 1);
  require(request.prompts.size() * request.n <= limits.choices_max);
  const auto& sampling = request.sampling;
  require(!sampling.temperature || (*sampling.temperature >= 0 && *sampling.temperature <= 2));
  require(!sampling.repetition_penalty || *sampling.repetition_penalty > 0);
  require(sampling.top_logprobs >= -1 && sampling.top_logprobs <= 20);
  for (const auto& [token, bias] : sampling.logit_bias)
    require(token >= 0 && std::isfinite(bias));
  for (const auto& one : sampling.stop)
    require(!one.empty());
}

template <class T>
void check(const gateway::result<T>& parsed) {
  if (const auto* error = std::get_if<gateway::api_error>(&parsed))
    check_error(*error);
}

// clang-format off
constexpr const char* names[] = {
    "model", "messages", "prompt", "temperature", "top_p", "min_p", "top_k", "n", "stop", "seed",
    "max_tokens", "max_completion_tokens", "min_tokens", "presence_penalty", "frequency_penalty",
    "repeat_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "tools",
    "tool_choice", "stream", "stream_options", "user", "reasoning_effort", "ignore_eos",
    "stop_token_ids", "chat_template_kwargs", "add_generation_prompt", "echo", "suffix",
    "keep_alive", "best_of", "modalities", "unknown"};
constexpr const char* values[] = {
    "null", "true", "false", "0", "1", "-1", "2", "0.5", "2.5", "1e30", "-0.0",
    "9223372036854775807", "18446744073709551615", "2147483648", "4294967296.0", "\"\"", "\"a\"",
    "\"5m\"", "\"-1\"", "[]", "{}", "[1]", "[[1],[2]]", "[\"a\"]", "[\"\"]", "[null]",
    "{\"1\":1}", "{\"x\":null}", "{\"-1\":5}", "{\"type\":\"text\"}", "{\"include_usage\":true}",
    "[{\"role\":\"user\",\"content\":\"x\"}]",
    "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}]",
    "[{\"role\":\"tool\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}]",
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"};
// clang-format on

/// A body put together from names and values that the readers know, two bytes for a field: edits of
/// single bytes mostly break the JSON and get no further.
std::string assemble(std::string_view picks, std::string body) {
  for (size_t i = 0; i + 1 < picks.size() && i < 32; i += 2) {
    body += ",\"";
    body += names[static_cast<uint8_t>(picks[i]) % std::size(names)];
    body += "\":";
    body += values[static_cast<uint8_t>(picks[i + 1]) % std::size(values)];
  }
  return body + "}";
}

/// Fed at once and byte by byte the guard must come to the same verdict.
void check_wire(std::string_view bytes) {
  gateway::wire_limits limits;
  limits.header_bytes_max = 512;
  limits.body_bytes_max = 512;
  gateway::wire_guard whole{limits}, single{limits};
  const auto at_once = whole.feed(bytes.data(), bytes.size());
  require(at_once.pass <= bytes.size());
  size_t messages = 0;
  int status = 0;
  for (size_t i = 0; i < bytes.size() && status == 0; ++i) {
    const auto one = single.feed(bytes.data() + i, 1);
    messages += one.completed.size();
    status = one.status;
  }
  require(status == at_once.status && messages == at_once.completed.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0)
    return 0;
  const std::string_view body{reinterpret_cast<const char*>(data) + 1, size - 1};
  switch ((data[0] - '0') & 15) {
  case 0:
  case 1:
    check_request(gateway::parse_chat_request(body, {}));
    break;
  case 2:
  case 3:
    check_request(gateway::parse_completion_request(body, {}));
    break;
  case 4:
    check(gateway::parse_tokenize_request(body));
    break;
  case 5:
    check(gateway::parse_detokenize_request(body));
    break;
  case 6:
    check(gateway::parse_load_request(body));
    break;
  case 7:
    check_wire(body);
    break;
  case 8:
  case 9:
    check_request(gateway::parse_chat_request(
        assemble(body, R"({"model":"m","messages":[{"role":"user","content":"x"}])"), {}));
    break;
  default:
    check_request(
        gateway::parse_completion_request(assemble(body, R"({"model":"m","prompt":"x")"), {}));
  }
  return 0;
}
