#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/ids.hpp"
#include "base/instant.hpp"
#include "engine/engine.hpp"
#include "policies/fair_queue.hpp"
#include "policies/quota.hpp"

/// What a request is and what comes back, in plain types: the gateway and the command line build
/// the one and consume the other without knowing about actors.
namespace troupe::actors {

/// OpenAI messages, rendered through the model's chat template.
struct chat_prompt {
  nlohmann::ordered_json messages; ///< array
  /// Further template variables: tools, add_generation_prompt, chat_template_kwargs ...
  nlohmann::ordered_json extra;
};
/// Text for /v1/completions: special tokens are added as the tokenizer's post-processor says.
struct text_prompt {
  std::string text;
};
/// Token ids as given.
struct token_prompt {
  std::vector<engine::token_id> tokens;
};
using prompt = std::variant<chat_prompt, text_prompt, token_prompt>;

/// Sampling as the client asked for it: what is unset comes from the model's
/// generation_config.json, then from the API's defaults.
struct sampling_request {
  std::optional<float> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  std::optional<float> presence_penalty, frequency_penalty, repetition_penalty;
  std::vector<std::pair<engine::token_id, float>> logit_bias;
  std::optional<uint64_t> seed;       ///< unset = drawn per request; choice i of n uses seed + i
  int32_t top_logprobs = -1;          ///< -1 none, 0..20
  std::optional<uint32_t> max_tokens; ///< unset = up to the context's end
  std::optional<uint32_t> max_tokens_allowed{}; ///< what the tenant may have if it is unset
  uint32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<std::string> stop; ///< never part of the text that is sent
  std::vector<engine::token_id> stop_token_ids;
};

struct invocation_request {
  request_id id;
  std::string answer_id{}; ///< what the answer calls itself
  /// When its last byte came in; unset = when its invocation began.
  instant received{};
  model_id model;
  /// Who pays; requests of one tenant share what its weight is worth under contention.
  std::string tenant = "anonymous";
  double tenant_weight = 1; ///< finite and above 0
  /// Also the salt of what is computed of its prompts: whether one was asked before is nobody
  /// else's business.
  uint64_t tenant_id() const { return std::hash<std::string>{}(tenant); }
  policies::fair_priority priority = policies::fair_priority::standard;
  policies::tenant_caps caps{};
  /// Several prompts (completions only) give prompts.size() * n choices, prompt-major.
  std::vector<prompt> prompts;
  uint32_t n = 1;
  sampling_request sampling;
  bool echo = false; ///< completions: the prompt's text comes first in each choice
  std::chrono::milliseconds timeout{600'000};
  /// How long the model stays loaded after this request; unset = the model's own setting.
  std::optional<std::chrono::milliseconds> keep_alive;
};

/// Why a request was not answered. `kind` decides the HTTP status (research: error table).
enum class failure_kind : uint8_t {
  invalid_request,         ///< 400
  context_length_exceeded, ///< 400
  unsupported,             ///< 400, e.g. chat with a model that has no template
  model_not_found,         ///< 404
  queue_full,              ///< 503 + Retry-After
  no_capacity,             ///< 503 + Retry-After: no worker, or the model fits nowhere
  load_failed,             ///< 503, or 500 when the files are broken
  shutting_down,           ///< 503 + Retry-After
  timed_out,               ///< 504
  cancelled,               ///< the client went away; nobody is told
  internal,                ///< 500
  rate_limited,            ///< 429 + Retry-After: requests or tokens per minute
  too_many_at_once,        ///< 429 + Retry-After
  beyond_quota,            ///< 429, and no use in trying again: it alone is over the limit
  budget_spent,            ///< 429, and no use in trying again soon
  tenant_cap,              ///< 429 + Retry-After if waiting helps: `limit` says of what
};
struct failure {
  failure_kind kind = failure_kind::internal;
  std::string message;
  std::string param; ///< the offending request field, or empty
  std::optional<std::chrono::seconds> retry_after;
  std::optional<policies::quota_kind> limit{}; ///< of its tenant, if that is why
};

/// Where the wake-up of a cold model stands.
struct load_progress {
  model_id model;
  std::string phase; ///< "queued", "downloading", "loading", "bound", "ready"
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
};

struct piece_logprob {
  engine::token_id token = 0;
  std::string text;  ///< as decoded in place
  std::string bytes; ///< raw bytes of the token, not always UTF-8
  float logprob = 0;
  struct alternative {
    std::string text;
    std::string bytes;
    float logprob = 0;
  };
  std::vector<alternative> top;
};
/// Text that became final. Pieces of a choice concatenate to its text; always whole UTF-8.
struct text_piece {
  uint32_t choice = 0;
  std::string text; ///< may be empty when only logprobs are carried
  std::vector<piece_logprob> logprobs;
};

struct usage {
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
  uint32_t cached_tokens = 0;
};

/// What the request went through, for logs, `explain` and headers. Monotonic durations from
/// acceptance.
struct request_timing {
  std::chrono::nanoseconds queued{0};      ///< until first dispatch to a worker
  std::chrono::nanoseconds first_token{0}; ///< until the first token arrived
  std::chrono::nanoseconds total{0};
  bool cold = false; ///< a load had to happen first
};

/// Receives one request's outcome. Calls come one at a time, in order, from actor threads, and must
/// not block. Exactly one of on_done and on_failure is the last call. After cancel() at most calls
/// already under way arrive.
class reply_sink {
public:
  virtual ~reply_sink() = default;
  /// The prompt is tokenized and the request accepted.
  virtual void on_accepted(uint32_t prompt_tokens) = 0;
  /// The model is cold: comes within 100 ms of acceptance and then as the load advances.
  virtual void on_progress(const load_progress& progress) = 0;
  /// It went beyond a limit of its tenant that is only watched, and goes on.
  virtual void on_watched(policies::quota_kind) {}
  /// After every token, also those that give no text: what the request has used so far.
  virtual void on_token(const usage&) {}
  virtual void on_text(text_piece piece) = 0;
  virtual void on_finish(uint32_t choice, engine::finish_reason reason) = 0;
  virtual void on_done(const usage& used, const request_timing& timing) = 0;
  virtual void on_failure(const failure& why) = 0;
};

/// A running request. Dropping the handle does not cancel.
class invocation_handle {
public:
  virtual ~invocation_handle() = default;
  /// The client is gone: stops its computation within one engine step. Any thread, any time.
  virtual void cancel() = 0;
};

} // namespace troupe::actors
