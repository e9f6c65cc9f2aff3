#include "storage/sources/http.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <utility>

#include <curl/curl.h>
#include <unistd.h>

#include "storage/errors.hpp"
#include "storage/sources/location.hpp"

namespace troupe::storage {

namespace {

using clock = std::chrono::steady_clock;

/// Connections kept for the next request; more than any download uses at once.
constexpr size_t idle_max = 64;
constexpr size_t error_body_bytes_max = 4096;
constexpr long receive_bytes = 512 * 1024;
constexpr size_t head_bytes_max = 256 * 1024;

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && blank(text.back()))
    text.remove_suffix(1);
  while (!text.empty() && blank(text.front()))
    text.remove_prefix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string out{text};
  std::ranges::transform(out, out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return out;
}

std::string host_of(const std::string& whole) {
  const auto url = without_credentials(whole);
  const auto at = url.find("://");
  const auto begin = at == std::string::npos ? 0 : at + 3;
  return url.substr(begin, url.find_first_of("/?#", begin) - begin);
}

} // namespace

const char* trusted_certificates() {
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"})
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0')
      return value;
  for (const char* file : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"})
    if (::access(file, R_OK) == 0)
      return file;
  return nullptr;
}

/// One easy handle in a multi handle of its own: the multi handle keeps the connection open, can be
/// woken up, and lets the caller decide what a stall is.
struct http_client::connection {
  CURLM* multi = curl_multi_init();
  CURL* easy = curl_easy_init();
  connection() = default;
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  ~connection() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }
};

namespace {

struct transfer {
  CURL* easy = nullptr;
  http_head head;
  size_t head_bytes = 0;
  std::string error_body;
  const http_client::head_check& check;
  const byte_sink& sink;
  bool checked = false;
  caf::error failed{};
  clock::time_point active = clock::now();
};

size_t on_header(char* data, size_t size, size_t count, void* to) {
  auto& run = *static_cast<transfer*>(to);
  const std::string_view line{data, size * count};
  run.active = clock::now();
  run.head_bytes += line.size();
  if (run.head_bytes > head_bytes_max)
    return 0;
  if (line.starts_with("HTTP/")) {
    run.head.fields.clear(); // an answer behind a redirect, or after a 100
    return line.size();
  }
  if (const auto colon = line.find(':'); colon != std::string_view::npos)
    run.head.fields[lower(trimmed(line.substr(0, colon)))] = trimmed(line.substr(colon + 1));
  return line.size();
}

/// True once the answer is one whose body is wanted.
bool wants_body(transfer& run) {
  if (std::exchange(run.checked, true))
    return true;
  curl_easy_getinfo(run.easy, CURLINFO_RESPONSE_CODE, &run.head.status);
  if (run.head.ok() && run.check)
    run.failed = run.check(run.head);
  return !run.failed;
}

size_t on_body(char* data, size_t size, size_t count, void* to) {
  auto& run = *static_cast<transfer*>(to);
  const size_t bytes = size * count;
  run.active = clock::now();
  if (!wants_body(run))
    return 0;
  if (!run.head.ok()) {
    run.error_body.append(data, std::min(bytes, error_body_bytes_max - run.error_body.size()));
    return bytes;
  }
  run.failed = run.sink(std::as_bytes(std::span{data, bytes}));
  run.active = clock::now(); // a slow sink is no stall of the server
  return run.failed ? 0 : bytes;
}

using header_list = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

void set_options(CURL* easy, const http_request& request, const http_limits& limits,
                 header_list& headers, transfer& run) {
  curl_easy_reset(easy);
  const auto set = [easy](auto option, auto value) { curl_easy_setopt(easy, option, value); };
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, request.follow ? 1L : 0L);
  set(CURLOPT_MAXREDIRS, 10L);
  // Ranges of one file are to come over connections of their own, not share one.
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_BUFFERSIZE, receive_bytes);
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits.connect_timeout.count()));
  set(CURLOPT_USERAGENT, "troupe/" TROUPE_VERSION);
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  if (const char* bundle = trusted_certificates())
    set(CURLOPT_CAINFO, bundle);
  if (request.method == "HEAD")
    set(CURLOPT_NOBODY, 1L);
  else if (request.method != "GET")
    set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  if (!request.credentials.empty()) {
    set(CURLOPT_USERPWD, request.credentials.c_str());
    if (request.sigv4.empty())
      set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
  }
  if (!request.sigv4.empty())
    set(CURLOPT_AWS_SIGV4, request.sigv4.c_str());
  for (const auto& line : request.headers)
    headers.reset(curl_slist_append(headers.release(), line.c_str()));
  if (request.range) {
    const auto last = request.range->offset + request.range->length - 1;
    const auto text =
        "Range: bytes=" + std::to_string(request.range->offset) + "-" + std::to_string(last);
    headers.reset(curl_slist_append(headers.release(), text.c_str()));
  }
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_HEADERFUNCTION, on_header);
  set(CURLOPT_HEADERDATA, &run);
  set(CURLOPT_WRITEFUNCTION, on_body);
  set(CURLOPT_WRITEDATA, &run);
}

/// Runs the transfer that was added to `multi` until it ends, stalls or is to stop.
caf::error drive(CURLM* multi, transfer& run, const http_request& request,
                 const http_limits& limits, const std::stop_token& stop) {
  const auto where = host_of(request.url);
  const std::stop_callback wake{stop, [multi] { curl_multi_wakeup(multi); }};
  int running = 1;
  while (true) {
    curl_multi_perform(multi, &running);
    if (stop.stop_requested())
      return caf::make_error(errc::cancelled, "cancelled");
    if (running == 0)
      break;
    const auto idle = clock::now() - run.active;
    if (idle >= limits.stall_timeout)
      return caf::make_error(
          errc::unavailable,
          where + " sent nothing for " +
              std::to_string(limits.stall_timeout.count() / 1000.0).substr(0, 4) + " s");
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(limits.stall_timeout - idle);
    curl_multi_poll(multi, nullptr, 0, static_cast<int>(std::min<int64_t>(left.count() + 1, 5000)),
                    nullptr);
  }
  CURLcode code = CURLE_OK;
  int queued = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi, &queued))
    if (message->msg == CURLMSG_DONE)
      code = message->data.result;
  if (run.failed)
    return run.failed;
  if (code == CURLE_OK)
    return {};
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
    return caf::make_error(errc::denied, where + ": its certificate is not trusted (" +
                                             curl_easy_strerror(code) +
                                             "); SSL_CERT_FILE names other certificates to trust");
  return caf::make_error(errc::unavailable, where + ": " + curl_easy_strerror(code));
}

} // namespace

const std::string& http_head::field(const std::string& name) const {
  static const std::string none;
  const auto at = fields.find(name);
  return at == fields.end() ? none : at->second;
}

std::optional<content_range> parse_content_range(std::string_view text) {
  if (!text.starts_with("bytes "))
    return std::nullopt;
  text = trimmed(text.substr(6));
  const auto dash = text.find('-');
  const auto slash = text.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || dash > slash)
    return std::nullopt;
  const auto number = [](std::string_view digits) -> std::optional<uint64_t> {
    uint64_t out = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    if (code != std::errc{} || end != digits.data() + digits.size() || out > uint64_t{1} << 62)
      return std::nullopt;
    return out;
  };
  const auto first = number(text.substr(0, dash));
  const auto last = number(text.substr(dash + 1, slash - dash - 1));
  if (!first || !last || *last < *first)
    return std::nullopt;
  content_range out{{*first, *last - *first + 1}, {}};
  if (const auto total = text.substr(slash + 1); total != "*") {
    out.total = number(total);
    if (!out.total || *out.total <= *last)
      return std::nullopt;
  }
  return out;
}

std::optional<int64_t> parse_http_date(const std::string& text) {
  const auto when = curl_getdate(text.c_str(), nullptr);
  return text.empty() || when < 0 ? std::nullopt : std::optional{static_cast<int64_t>(when)};
}

std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text) {
  constexpr int64_t seconds_max = 365 * 86400;
  int64_t seconds = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (code != std::errc{} || end != text.data() + text.size()) {
    const auto when = parse_http_date(std::string{text});
    if (!when)
      return std::nullopt;
    seconds = *when - static_cast<int64_t>(std::time(nullptr));
  }
  if (seconds < 0)
    return std::nullopt;
  return std::chrono::milliseconds{1000 * std::min(seconds, seconds_max)};
}

http_client::http_client(http_limits limits) : limits_{limits} {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

http_client::~http_client() = default;

std::unique_ptr<http_client::connection> http_client::take() {
  const std::lock_guard guard{mutex_};
  if (idle_.empty())
    return std::make_unique<connection>();
  auto out = std::move(idle_.back()); // the one used last is the likeliest to be open still
  idle_.pop_back();
  return out;
}

void http_client::give(std::unique_ptr<connection> one) {
  const std::lock_guard guard{mutex_};
  if (idle_.size() < idle_max)
    idle_.push_back(std::move(one));
}

caf::expected<http_head> http_client::perform(const http_request& request, const head_check& check,
                                              const byte_sink& sink, std::stop_token stop) {
  auto over = take();
  transfer run{.easy = over->easy, .head = {}, .error_body = {}, .check = check, .sink = sink};
  header_list headers{nullptr, curl_slist_free_all};
  set_options(over->easy, request, limits_, headers, run);
  curl_multi_add_handle(over->multi, over->easy);
  auto why = drive(over->multi, run, request, limits_, stop);
  if (!why && !wants_body(run)) // an empty body reaches no callback
    why = run.failed;
  curl_easy_getinfo(over->easy, CURLINFO_RESPONSE_CODE, &run.head.status);
  const char* url = nullptr;
  if (curl_easy_getinfo(over->easy, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url != nullptr)
    run.head.url = url;
  curl_multi_remove_handle(over->multi, over->easy);
  if (why)
    return why; // the connection is in an unknown state: it goes
  give(std::move(over));
  if (!run.error_body.empty())
    run.head.fields[":body"] = std::move(run.error_body);
  return std::move(run.head);
}

caf::expected<http_head> http_client::fetch(const http_request& request, std::stop_token stop,
                                            size_t bytes_max) {
  std::string body;
  const auto keep = [&](std::span<const std::byte> piece) -> caf::error {
    if (piece.size() > bytes_max - body.size())
      return caf::make_error(errc::malformed, host_of(request.url) +
                                                  ": the answer is longer than " +
                                                  std::to_string(bytes_max) + " bytes");
    body.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    return {};
  };
  auto head = perform(request, {}, keep, std::move(stop));
  if (head && head->ok())
    head->fields[":body"] = std::move(body);
  return head;
}

caf::error error_of(const http_head& answer, const std::string& what, const std::string& hint) {
  const auto status = std::to_string(answer.status);
  switch (answer.status) {
  case 401:
  case 403:
  case 407:
    return caf::make_error(errc::denied, what + ": access denied (" + status + ")" +
                                             (hint.empty() ? "" : "; " + hint));
  case 404:
  case 410:
    return caf::make_error(errc::not_found, what + ": there is no such thing (" + status + ")");
  case 412:
  case 416:
    return caf::make_error(errc::changed, what + ": it was changed meanwhile (" + status + ")");
  case 408:
  case 425:
  case 429:
  case 500:
  case 502:
  case 503:
  case 504: {
    const auto text = what + ": the server is overloaded or failing (" + status + ")";
    if (const auto pause = parse_retry_after(answer.field("retry-after")))
      return caf::make_error(errc::unavailable, text, static_cast<int64_t>(pause->count()));
    return caf::make_error(errc::unavailable, text);
  }
  default:
    return caf::make_error(errc::unreadable, what + ": the server answered " + status);
  }
}

} // namespace troupe::storage
