#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace troupe::cli {

/// Where `troupe serve` listens when nothing else was said.
inline constexpr const char* default_server = "http://127.0.0.1:11500";

struct http_answer {
  long status = 0; ///< 0: no connection, or it broke; `body` says why
  std::string body;
};

/// A GET with the key of TROUPE_API_KEY; blocks, ten seconds at most.
http_answer http_request(const std::string& url);

/// Asks a route below /admin; blocks. The key is that of TROUPE_ADMIN_KEY, else of TROUPE_API_KEY.
/// A GET ends after ten seconds at most.
http_answer admin_request(const std::string& method, const std::string& url,
                          const std::string& body = {},
                          const std::string& content_type = "application/json");

/// A POST whose answer is an event stream.
class http_stream {
public:
  http_stream();
  ~http_stream();
  /// Hands over each `data:` payload as it comes, and each comment; blocks. With a status other
  /// than 200 the body comes back in the answer and nothing is handed over.
  http_answer run(const std::string& url, const std::string& body,
                  const std::function<void(std::string_view data)>& on_data,
                  const std::function<void(std::string_view comment)>& on_comment);
  /// Ends `run` soon, by closing the connection. Any thread.
  void cancel();
  bool cancelled() const;

private:
  struct state;
  std::unique_ptr<state> state_;
};

/// Cuts an event stream, however its bytes are split, into data payloads and comments.
class event_splitter {
public:
  void feed(std::string_view bytes, const std::function<void(std::string_view)>& on_data,
            const std::function<void(std::string_view)>& on_comment);

private:
  std::string pending_;
};

/// "host:port" becomes "http://host:port", and a '/' at the end goes.
std::string normal_url(std::string url);

/// For a path segment: everything but letters, digits and -_.~ is escaped.
std::string url_escape(std::string_view text);

/// What to tell of an answer with status 0.
std::string no_server_text(const std::string& url, const http_answer& answer);
/// The `code` of an OpenAI-shaped error body, or nothing.
std::string error_code(const http_answer& answer);
/// The `message` of an OpenAI-shaped error body, or the body itself.
std::string error_message(const http_answer& answer);

} // namespace troupe::cli
