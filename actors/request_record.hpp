#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/ids.hpp"
#include "policies/load_cost.hpp"

namespace troupe::actors {

/// What was expected of a request when it was put into the queue, or when its model's load began.
/// Seconds from acceptance; nothing where it needs none.
struct request_forecast {
  /// Where the weights were: "resident", "loading", "device" (another one of the machine has
  /// them), "pool", "disk", "page cache", "source".
  std::string state;
  policies::tier_bytes bytes{}; ///< to be loaded, by where they come from
  double queue = 0;             ///< for a place on a worker, or for other loads
  double load = 0;              ///< fetch, read and bind
  double prefill = 0;
  double first_token = 0;
};

/// What a load that a request waited for brought and took.
struct request_load {
  policies::tier_bytes bytes{};
  policies::load_phases seconds{};
  std::string source{}; ///< which link the remote bytes came over
};

enum class request_state : uint8_t { running, finished, failed, cancelled };

/// One request as it was foreseen and as it went. No text of it, and no key.
struct request_record {
  uint64_t number = 0;   ///< grows from request to request
  request_id id;         ///< as in the header x-request-id
  std::string answer_id; ///< as in the body of its answer
  model_id model;
  std::string tenant;
  std::chrono::system_clock::time_point received{};
  request_state state = request_state::running;
  std::string failure{}; ///< the kind of failure, or empty
  uint32_t choices = 0;

  std::optional<request_forecast> forecast{};
  bool is_cold = false; ///< it waited for a load
  std::optional<request_load> load{};
  std::string worker{}; ///< the last one: "cpu@node"

  // Seconds. Parsing, limits of the tenant, text and queue come one after the other.
  double admission = 0;   ///< last byte in until accepted: parsing, the tenant's limits
  double text = 0;        ///< template and tokenizer, and their loading
  double queued = 0;      ///< accepted until first dispatched to a worker, `text` included
  double prefill = 0;     ///< first step until first token, waits for weights included
  double first_token = 0; ///< accepted until first token; 0 = there is none
  double total = 0;
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0; ///< of those, found computed
  uint32_t completion_tokens = 0;
  uint32_t preemptions = 0;
  uint32_t worker_changes = 0; ///< times that it went on elsewhere

  /// Tokens of one choice a second, after the first one; 0 = too few to say.
  double decode_rate() const {
    const auto after = choices > 0 && completion_tokens > choices
                           ? (completion_tokens - choices) / static_cast<double>(choices)
                           : 0;
    return total > first_token && first_token > 0 ? after / (total - first_token) : 0;
  }
};

} // namespace troupe::actors
