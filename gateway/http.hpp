#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/instant.hpp"

/// One HTTP exchange in plain values: the routes speak it, the network side carries it.
namespace troupe::actors {
class tenant;
struct issued_key;
} // namespace troupe::actors
namespace troupe::gateway {

struct http_request {
  std::string method = "GET";
  std::string path;  ///< as sent, still percent-encoded, without the query
  std::string query; ///< what stands behind the '?', as sent
  std::string content_type;
  std::string content_encoding;
  std::string body;
  std::string authorization;              ///< holds a key: never to be logged or shown
  std::shared_ptr<actors::tenant> tenant; ///< whose request it is; null for the administrator
  std::shared_ptr<const actors::issued_key> key; ///< null where the configuration has the key
  std::string id;                                ///< what x-request-id says in the response
  instant received{};
};

struct http_response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  /// Beyond those that every response has (x-request-id, date, lengths).
  std::vector<std::pair<std::string, std::string>> headers;
};

/// Where one request's response goes. Either send(), or start_stream(), write()... and finish().
/// Any thread may call; nothing blocks; calls after the client has left do nothing.
class reply_channel {
public:
  virtual ~reply_channel() = default;
  /// Names the route in metrics; `route` must be a constant.
  virtual void set_route(std::string_view route) = 0;
  /// A header of the response, whatever that will be; a later value replaces an earlier one. Too
  /// late once the response has begun.
  virtual void set_header(std::string name, std::string value) = 0;
  /// The whole response.
  virtual void send(http_response response) = 0;
  /// Status 200 and the headers of an event stream.
  virtual void start_stream() = 0;
  /// Part of the stream's body. A client that does not read loses its connection.
  virtual void write(std::string_view bytes) = 0;
  /// The stream's last part.
  virtual void finish(std::string_view bytes) = 0;
  /// `then` runs once if the client leaves before its response is complete, at once if it has
  /// left already; it is dropped when the response is complete.
  virtual void on_gone(std::function<void()> then) = 0;
  /// `then` runs whenever the client has been sent nothing for server_options::sse_silence_max.
  virtual void on_silence(std::function<void()> then) = 0;
};

std::string_view reason_phrase(int status);

/// Percent-decodes part of a path; false when an escape is broken.
bool percent_decode(std::string_view text, std::string& out);

/// `proposed` if a client may choose it (up to 128 visible ASCII characters), else a new one.
std::string make_request_id(std::string_view proposed);

/// 32 random hexadecimal digits, unique for all practical purposes.
std::string random_hex();

} // namespace troupe::gateway
