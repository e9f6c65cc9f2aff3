#include "cli/http_client.hpp"

#include <atomic>
#include <cstdlib>
#include <initializer_list>

#include <curl/curl.h>
#include <nlohmann/json.hpp>

#include "storage/sources/http.hpp"

namespace troupe::cli {
namespace {

using handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using header_list = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;
using multi_handle = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;

size_t append(char* data, size_t size, size_t count, void* to) {
  static_cast<std::string*>(to)->append(data, size * count);
  return size * count;
}

void add_header(CURL* curl, header_list& headers, const std::string& line) {
  headers.reset(curl_slist_append(headers.release(), line.c_str()));
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
}

void set_post(CURL* curl, const std::string& body, header_list& headers,
              const std::string& content_type) {
  add_header(curl, headers, "Content-Type: " + content_type);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
}

/// The key that servers with keys ask for: the first variable that is set. From the environment
/// alone: other users of the machine see command lines.
void set_key(CURL* curl, header_list& headers, std::initializer_list<const char*> variables) {
  for (const auto* name : variables)
    if (const char* key = std::getenv(name); key && *key)
      return add_header(curl, headers, std::string{"Authorization: Bearer "} + key);
}

handle open(const std::string& url) {
  handle curl{curl_easy_init(), curl_easy_cleanup};
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 5L);
  if (const char* bundle = storage::trusted_certificates())
    curl_easy_setopt(curl.get(), CURLOPT_CAINFO, bundle);
  return curl;
}

struct stream_reader {
  CURL* curl;
  event_splitter splitter{};
  std::string refused{};
  const std::function<void(std::string_view)>& on_data;
  const std::function<void(std::string_view)>& on_comment;
};

size_t take_events(char* data, size_t size, size_t count, void* to) {
  auto& reader = *static_cast<stream_reader*>(to);
  long status = 0;
  curl_easy_getinfo(reader.curl, CURLINFO_RESPONSE_CODE, &status);
  if (status == 200)
    reader.splitter.feed({data, size * count}, reader.on_data, reader.on_comment);
  else
    reader.refused.append(data, size * count);
  return size * count;
}

http_answer outcome(CURL* curl, CURLcode why, std::string body) {
  if (why != CURLE_OK)
    return {0, curl_easy_strerror(why)};
  http_answer out{0, std::move(body)};
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &out.status);
  return out;
}

http_answer send(const std::string& method, const std::string& url, const std::string& body,
                 const std::string& content_type, std::initializer_list<const char*> keys) {
  auto curl = open(url);
  header_list headers{nullptr, curl_slist_free_all};
  set_key(curl.get(), headers, keys);
  std::string answer;
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  if (method == "GET")
    curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 10L);
  else
    set_post(curl.get(), body, headers, content_type); // a load may take as long as it takes
  if (method != "GET" && method != "POST")
    curl_easy_setopt(curl.get(), CURLOPT_CUSTOMREQUEST, method.c_str());
  const auto why = curl_easy_perform(curl.get());
  return outcome(curl.get(), why, std::move(answer));
}

} // namespace

http_answer http_request(const std::string& url) {
  return send("GET", url, {}, {}, {"TROUPE_API_KEY"});
}

http_answer admin_request(const std::string& method, const std::string& url,
                          const std::string& body, const std::string& content_type) {
  return send(method, url, body, content_type, {"TROUPE_ADMIN_KEY", "TROUPE_API_KEY"});
}

struct http_stream::state {
  multi_handle multi{curl_multi_init(), curl_multi_cleanup};
  std::atomic<bool> cancelled = false;
};

http_stream::http_stream() : state_{std::make_unique<state>()} {}
http_stream::~http_stream() = default;

void http_stream::cancel() {
  state_->cancelled = true;
  curl_multi_wakeup(state_->multi.get());
}

bool http_stream::cancelled() const { return state_->cancelled; }

http_answer http_stream::run(const std::string& url, const std::string& body,
                             const std::function<void(std::string_view)>& on_data,
                             const std::function<void(std::string_view)>& on_comment) {
  auto curl = open(url);
  header_list headers{nullptr, curl_slist_free_all};
  set_key(curl.get(), headers, {"TROUPE_API_KEY"});
  stream_reader reader{.curl = curl.get(), .on_data = on_data, .on_comment = on_comment};
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take_events);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &reader);
  set_post(curl.get(), body, headers, "application/json");
  CURLM* multi = state_->multi.get();
  curl_multi_add_handle(multi, curl.get());
  CURLcode why = CURLE_ABORTED_BY_CALLBACK;
  for (int running = 1; running > 0 && !state_->cancelled;) {
    if (curl_multi_perform(multi, &running) != CURLM_OK)
      break;
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi, &left))
      if (message->msg == CURLMSG_DONE)
        why = message->data.result;
    if (running > 0)
      curl_multi_poll(multi, nullptr, 0, 1000, nullptr);
  }
  curl_multi_remove_handle(multi, curl.get());
  return outcome(curl.get(), why, std::move(reader.refused));
}

void event_splitter::feed(std::string_view bytes,
                          const std::function<void(std::string_view)>& on_data,
                          const std::function<void(std::string_view)>& on_comment) {
  pending_ += bytes;
  size_t start = 0;
  for (size_t end; (end = pending_.find('\n', start)) != std::string::npos; start = end + 1) {
    std::string_view line{pending_.data() + start, end - start};
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (line.starts_with("data:"))
      on_data(line.substr(line.starts_with("data: ") ? 6 : 5));
    else if (line.starts_with(':'))
      on_comment(line.substr(line.starts_with(": ") ? 2 : 1));
  }
  pending_.erase(0, start);
}

std::string normal_url(std::string url) {
  if (url.find("://") == std::string::npos)
    url.insert(0, "http://");
  while (url.ends_with('/'))
    url.pop_back();
  return url;
}

std::string url_escape(std::string_view text) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    const auto byte = static_cast<unsigned char>(c);
    out += plain ? std::string(1, c) : std::string{'%', digits[byte >> 4], digits[byte & 15]};
  }
  return out;
}

std::string no_server_text(const std::string& url, const http_answer& answer) {
  return "no server answers at " + url + " (" + answer.body +
         "): start one with `troupe serve`, or name another with --url";
}

std::string error_code(const http_answer& answer) {
  const auto parsed = nlohmann::json::parse(answer.body, nullptr, false);
  const nlohmann::json::json_pointer at{"/error/code"};
  return parsed.is_object() && parsed.contains(at) && parsed[at].is_string()
             ? parsed[at].get<std::string>()
             : std::string{};
}

std::string error_message(const http_answer& answer) {
  const auto parsed = nlohmann::json::parse(answer.body, nullptr, false);
  if (parsed.is_object() && parsed.contains("error") && parsed["error"].is_object() &&
      parsed["error"].contains("message") && parsed["error"]["message"].is_string())
    return parsed["error"]["message"].get<std::string>();
  if (answer.body.empty())
    return "the server answered with status " + std::to_string(answer.status);
  return answer.body.substr(0, 500);
}

} // namespace troupe::cli
