#pragma once
#include <functional>
#include <memory>
#include <string>

#include "actors/request.hpp"
#include "gateway/api_error.hpp"
#include "gateway/http.hpp"
#include "gateway/openai_text.hpp"

namespace troupe::gateway {

/// What a sink needs to know of the request it answers.
struct answer_shape {
  answer_identity identity;
  uint32_t choices = 1; ///< prompts * n
  bool logprobs = false;
  bool include_usage = false;
  bool stream = false;
  /// Why the answer was cut short, if it was; to be set before on_done.
  std::shared_ptr<std::optional<api_error>> ending{};
};

/// Turns the outcome of a request into one JSON body.
std::shared_ptr<actors::reply_sink> make_whole_sink(std::shared_ptr<reply_channel> channel,
                                                    answer_shape shape);

/// Turns it into server-sent events as it comes. A failure before anything was sent is answered
/// with its own status.
std::shared_ptr<actors::reply_sink> make_stream_sink(std::shared_ptr<reply_channel> channel,
                                                     answer_shape shape);

} // namespace troupe::gateway
