#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "storage/sources/source.hpp"

namespace troupe::storage {

/// Certificates as other programs of this machine are told to trust (SSL_CERT_FILE and its like),
/// else the system's, which do not lie where the library was built everywhere; null = where the
/// library looks by itself.
const char* trusted_certificates();

/// How long a connection may do nothing.
struct http_limits {
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds stall_timeout{30'000}; ///< without a byte received
};

struct http_request {
  std::string url;
  std::string method = "GET";         ///< GET, HEAD or PUT (without a body)
  std::vector<std::string> headers{}; ///< "Name: value"
  std::optional<byte_range> range{};  ///< asks for these bytes; the length is not 0
  std::string credentials{};          ///< "user:password" for Basic, or for `sigv4`
  std::string sigv4{};                ///< "aws:amz:REGION:SERVICE": sign the request
  bool follow = true;                 ///< redirects, to http and https
};

/// What came before the body.
struct http_head {
  long status = 0;
  std::string url;                           ///< that answered, behind all redirects
  std::map<std::string, std::string> fields; ///< names in lower case

  /// Empty if the field is not there.
  const std::string& field(const std::string& name) const;
  bool ok() const { return status >= 200 && status < 300; }
};

/// "bytes 0-4/10" of a 206.
struct content_range {
  byte_range part;
  std::optional<uint64_t> total;
};
std::optional<content_range> parse_content_range(std::string_view text);

/// Seconds since 1970 of a date as header fields have it; nothing if it is none.
std::optional<int64_t> parse_http_date(const std::string& text);

/// Seconds or a date. Nothing if it is neither or lies in the past.
std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text);

/// Sends requests over connections that it keeps open. Any number of threads may call at once; each
/// call drives its own transfer, so that decrypting and copying use as many cores as there are
/// callers.
class http_client {
public:
  explicit http_client(http_limits limits = {});
  ~http_client();
  http_client(const http_client&) = delete;
  http_client& operator=(const http_client&) = delete;

  /// Decides, from the head of a successful answer, whether its body is wanted.
  using head_check = std::function<caf::error(const http_head&)>;

  /// Sends `request`; hands the body of a 2xx answer to `sink`, and returns the head of any answer.
  /// The first 4 KiB of any other body end up in the field ":body". Fails with `unavailable` if
  /// there is no whole answer, with `cancelled`, or with what `check` or `sink` returned.
  caf::expected<http_head> perform(const http_request& request, const head_check& check,
                                   const byte_sink& sink, std::stop_token stop);

  /// The same for small answers: the body, of at most `bytes_max`, is in the field ":body".
  caf::expected<http_head> fetch(const http_request& request, std::stop_token stop,
                                 size_t bytes_max = size_t{64} << 20);

private:
  struct connection;
  std::unique_ptr<connection> take();
  void give(std::unique_ptr<connection> one);

  const http_limits limits_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<connection>> idle_;
};

/// The error that an answer other than 2xx amounts to; `what` says what was wanted ("fetching
/// config.json from https://..."), `hint` what to do about missing rights.
caf::error error_of(const http_head& answer, const std::string& what, const std::string& hint = {});

} // namespace troupe::storage
