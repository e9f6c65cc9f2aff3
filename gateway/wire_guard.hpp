#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace troupe::gateway {

struct wire_limits {
  uint64_t body_bytes_max = 16ull << 20;
  uint32_t header_bytes_max = 64u << 10;
  uint32_t target_bytes_max = 8u << 10;
  uint32_t chunks_max = 1u << 16; ///< of one chunked body: each costs bookkeeping
};

/// Reads along with the bytes of a connection before the HTTP server sees them. The server closes
/// a connection that breaks the protocol or a limit without a word; this finds such bytes first, so
/// that the client can be told. One thread at a time.
class wire_guard {
public:
  explicit wire_guard(wire_limits limits);
  ~wire_guard();
  wire_guard(wire_guard&&) = delete;

  /// A request whose last byte has come.
  struct message {
    bool http_1_0 = false;
  };
  struct verdict {
    size_t pass = 0; ///< so many bytes belong to sound requests
    std::vector<message> completed;
    bool expects_continue = false; ///< the client waits for "100 Continue" before its body
    int status = 0;                ///< 4xx when what follows `pass` must be refused
    std::string code;
    std::string text;
  };
  /// After a verdict with a status nothing more may be fed.
  verdict feed(const char* data, size_t size);
  /// The client will send no more: a verdict with a status if it stopped inside a request.
  verdict end() const;

private:
  struct parser;
  std::unique_ptr<parser> parser_;
};

} // namespace troupe::gateway
