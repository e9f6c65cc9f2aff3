#include "gateway/wire_guard.hpp"

#include <climits>
#include <string_view>

#include <http_parser.h>

#include "base/text.hpp"

namespace troupe::gateway {

struct wire_guard::parser {
  explicit parser(wire_limits what) : limits{what} { reset(); }

  void reset() {
    http_parser_init(&http, HTTP_REQUEST);
    http.data = this;
    target_bytes = header_bytes = body_bytes = 0;
    chunks = 0;
    name.clear();
    value.clear();
    in_name = in_value = expects = headers_done = complete = false;
  }

  int refuse(int with, const char* why_code, std::string why) {
    status = with;
    code = why_code;
    text = std::move(why);
    return -1;
  }

  int add_header_bytes(size_t count) {
    header_bytes += count;
    if (header_bytes > limits.header_bytes_max)
      return refuse(431, "headers_too_large",
                    "The request's headers are larger than " +
                        std::to_string(limits.header_bytes_max) + " bytes.");
    return 0;
  }

  void end_field() {
    if (equal_ignoring_case(name, "expect") && equal_ignoring_case(value, "100-continue"))
      expects = true;
    name.clear();
    value.clear();
    in_value = false;
  }

  int on_url(size_t count) {
    target_bytes += count;
    if (target_bytes > limits.target_bytes_max)
      return refuse(414, "uri_too_long",
                    "The request's URL is longer than " + std::to_string(limits.target_bytes_max) +
                        " bytes.");
    return 0;
  }

  int on_name(const char* at, size_t count) {
    const bool starts = !in_name; // a name can come in several pieces
    if (in_value)
      end_field();
    in_name = true;
    if (name.size() + count <= 64) // only "expect" matters
      name.append(at, count);
    return add_header_bytes(count + (starts ? 4 : 0)); // colon, blank and line end
  }

  int on_value(const char* at, size_t count) {
    in_value = true;
    in_name = false;
    if (value.size() + count <= 64)
      value.append(at, count);
    return add_header_bytes(count);
  }

  int refuse_body() {
    return refuse(413, "payload_too_large",
                  "The request's body is larger than " + std::to_string(limits.body_bytes_max) +
                      " bytes.");
  }

  int on_headers() {
    if (in_value)
      end_field();
    headers_done = true;
    if (http.http_major != 1)
      return refuse(400, "bad_http_request", "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
    if (http.content_length != ULLONG_MAX && http.content_length > limits.body_bytes_max)
      return refuse_body();
    return 0;
  }

  int on_body(size_t count) {
    body_bytes += count;
    return body_bytes > limits.body_bytes_max ? refuse_body() : 0;
  }

  int on_chunk() {
    if (http.content_length > limits.body_bytes_max - body_bytes)
      return refuse_body();
    if (++chunks > limits.chunks_max)
      return refuse(413, "payload_too_large",
                    "The request's body has more than " + std::to_string(limits.chunks_max) +
                        " chunks.");
    return 0;
  }

  wire_limits limits;
  http_parser http{};
  uint64_t target_bytes = 0, header_bytes = 0, body_bytes = 0;
  uint32_t chunks = 0;
  std::string name, value;
  bool in_name = false, in_value = false, expects = false, headers_done = false, complete = false;
  bool started = false; ///< inside a request
  bool upgraded =
      false; ///< what follows is not HTTP for us; the connection closes after the answer
  int status = 0;
  std::string code, text;
};

namespace {

template <class Parser>
Parser& self(http_parser* http) {
  return *static_cast<Parser*>(http->data);
}

template <class Parser>
const http_parser_settings& callbacks() {
  static const http_parser_settings out = [] {
    http_parser_settings set;
    http_parser_settings_init(&set);
    set.on_url = [](http_parser* p, const char*, size_t n) { return self<Parser>(p).on_url(n); };
    set.on_header_field = [](http_parser* p, const char* at, size_t n) {
      return self<Parser>(p).on_name(at, n);
    };
    set.on_header_value = [](http_parser* p, const char* at, size_t n) {
      return self<Parser>(p).on_value(at, n);
    };
    set.on_headers_complete = [](http_parser* p) { return self<Parser>(p).on_headers(); };
    set.on_body = [](http_parser* p, const char*, size_t n) { return self<Parser>(p).on_body(n); };
    set.on_chunk_header = [](http_parser* p) { return self<Parser>(p).on_chunk(); };
    set.on_message_complete = [](http_parser* p) {
      // The server stops here as well, and starts its parser anew for what follows.
      http_parser_pause(p, 1);
      self<Parser>(p).complete = true;
      return 0;
    };
    return set;
  }();
  return out;
}

} // namespace

wire_guard::wire_guard(wire_limits limits) : parser_{std::make_unique<parser>(limits)} {}

wire_guard::~wire_guard() = default;

wire_guard::verdict wire_guard::feed(const char* data, size_t size) {
  verdict out;
  auto& p = *parser_;
  if (p.upgraded) {
    out.pass = size;
    return out;
  }
  size_t at = 0;
  while (at < size) {
    const bool had_headers = p.headers_done;
    at += http_parser_execute(&p.http, &callbacks<parser>(), data + at, size - at);
    const auto failure = HTTP_PARSER_ERRNO(&p.http);
    if (failure != HPE_OK && failure != HPE_PAUSED) {
      if (p.status == 0) {
        const bool overflow = failure == HPE_HEADER_OVERFLOW;
        p.refuse(overflow ? 431 : 400, overflow ? "headers_too_large" : "bad_http_request",
                 std::string{"This is not a valid HTTP request: "} +
                     http_errno_description(failure) + ".");
      }
      out.status = p.status;
      out.code = p.code;
      out.text = p.text;
      return out;
    }
    p.started = p.http.nread > 0 || p.headers_done;
    if (!p.complete) {
      out.expects_continue = p.expects && p.headers_done && !had_headers;
      break; // all bytes are taken
    }
    out.completed.push_back({p.http.http_minor == 0});
    out.pass = at;
    p.started = false;
    if (p.http.upgrade) {
      p.upgraded = true;
      break;
    }
    p.reset();
  }
  out.pass = size;
  return out;
}

wire_guard::verdict wire_guard::end() const {
  verdict out;
  if (parser_->started && !parser_->upgraded) {
    out.status = 400;
    out.code = "bad_http_request";
    out.text = "The connection ended in the middle of a request.";
  }
  return out;
}

} // namespace troupe::gateway
