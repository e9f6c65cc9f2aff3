#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace troupe::cli {

struct http_answer {
  long status = 0; ///< 0: no connection, and `body` says why
  std::string body;
};

/// A request to a running server; blocks. `body` empty = GET unless `post`.
http_answer http_request(const std::string& url, bool post, const std::string& body = {});

/// POSTs and hands over each `data:` payload of the event stream as it comes, and each comment.
/// With a status other than 200 the body comes back in the answer and no event is handed over.
http_answer http_stream(const std::string& url, const std::string& body,
                        const std::function<void(std::string_view data)>& on_data,
                        const std::function<void(std::string_view comment)>& on_comment);

/// For a path segment: everything but letters, digits and -_.~ is escaped.
std::string url_escape(std::string_view text);

/// The `message` of an OpenAI-shaped error body, or the body itself.
std::string error_message(const http_answer& answer);

} // namespace troupe::cli
