#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <variant>

#include "actors/request.hpp"
#include "base/error.hpp"
#include "gateway/http.hpp"

namespace troupe::gateway {

/// What went wrong, as the OpenAI API words it.
struct api_error {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param; ///< empty = null
  std::string code;  ///< empty = null
  std::optional<std::chrono::seconds> retry_after;
  /// Clients repeat every 5xx; false tells them that it would not help.
  bool worth_retrying = true;
};

template <class T>
using result = std::variant<T, api_error>;

/// `{"error":{...}}` with all four keys.
std::string error_body(const api_error& error);

/// The whole response: body, and the retry headers that the status calls for.
http_response error_response(const api_error& error);

/// The table of statuses, types and codes for requests that the node could not answer.
api_error to_api_error(const actors::failure& why);

/// The same for calls that answer with an error of actors/.
api_error to_api_error(const caf::error& why);

} // namespace troupe::gateway
