#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::gateway::test {

struct reply {
  int status = 0;                             ///< 0: the connection ended before a response came
  std::map<std::string, std::string> headers; ///< names in lower case
  std::string body;                           ///< chunks joined
};

/// A blocking HTTP client that can misbehave. Reads give up after a time that only a failing test
/// reaches.
class http_client {
public:
  explicit http_client(uint16_t port, int receive_buffer = 0);
  ~http_client();
  http_client(http_client&& other) noexcept;
  http_client(const http_client&) = delete;

  /// False when the server has closed the connection.
  bool send(std::string_view bytes);
  reply get(const std::string& path, const std::string& headers = {});
  reply post(const std::string& path, const std::string& body, const std::string& headers = {});
  /// The next response, whole. With `head` no body is expected.
  reply read_reply(bool head = false);
  /// Reads up to and with `text`; what came so far when the connection ends first.
  std::string read_until(std::string_view text);
  /// Status line and headers of the next response.
  reply read_head();
  /// True when the server has closed its side and everything was read.
  bool closed();
  void finish_sending();
  void close();

private:
  bool fill();
  std::string take(size_t count);
  int socket_ = -1;
  std::string buffer_;
};

/// A request with its length.
std::string format_post(const std::string& path, const std::string& body,
                        const std::string& headers = {});

} // namespace troupe::gateway::test
