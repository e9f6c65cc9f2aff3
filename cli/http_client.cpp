#include "cli/http_client.hpp"

#include <memory>

#include <curl/curl.h>
#include <nlohmann/json.hpp>

namespace troupe::cli {

namespace {

using handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using header_list = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

size_t append(char* data, size_t size, size_t count, void* to) {
  static_cast<std::string*>(to)->append(data, size * count);
  return size * count;
}

/// Cuts an event stream into its lines.
struct event_reader {
  CURL* curl;
  std::string pending, refused;
  const std::function<void(std::string_view)>& on_data;
  const std::function<void(std::string_view)>& on_comment;

  void take(std::string_view bytes) {
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
      refused += bytes;
      return;
    }
    pending += bytes;
    for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
      const std::string_view line{pending.data(), end};
      if (line.starts_with("data: "))
        on_data(line.substr(6));
      else if (line.starts_with(":"))
        on_comment(line.substr(line.starts_with(": ") ? 2 : 1));
    }
  }
};

size_t take_events(char* data, size_t size, size_t count, void* to) {
  static_cast<event_reader*>(to)->take({data, size * count});
  return size * count;
}

http_answer perform(CURL* curl, std::string& body) {
  http_answer out;
  if (const auto why = curl_easy_perform(curl); why != CURLE_OK) {
    out.body = curl_easy_strerror(why);
    return out;
  }
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &out.status);
  out.body = std::move(body);
  return out;
}

void set_post(CURL* curl, const std::string& body, header_list& headers) {
  headers.reset(curl_slist_append(nullptr, "Content-Type: application/json"));
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
}

handle open(const std::string& url) {
  handle curl{curl_easy_init(), curl_easy_cleanup};
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 5L);
  return curl;
}

} // namespace

http_answer http_request(const std::string& url, bool post, const std::string& body) {
  auto curl = open(url);
  header_list headers{nullptr, curl_slist_free_all};
  std::string answer;
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  if (post)
    set_post(curl.get(), body, headers);
  return perform(curl.get(), answer);
}

http_answer http_stream(const std::string& url, const std::string& body,
                        const std::function<void(std::string_view)>& on_data,
                        const std::function<void(std::string_view)>& on_comment) {
  auto curl = open(url);
  header_list headers{nullptr, curl_slist_free_all};
  event_reader reader{curl.get(), {}, {}, on_data, on_comment};
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, take_events);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &reader);
  set_post(curl.get(), body, headers);
  return perform(curl.get(), reader.refused);
}

std::string url_escape(std::string_view text) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain)
      out += c;
    else
      out += {'%', digits[static_cast<unsigned char>(c) >> 4], digits[static_cast<unsigned char>(c) & 15]};
  }
  return out;
}

std::string error_message(const http_answer& answer) {
  const auto parsed = nlohmann::json::parse(answer.body, nullptr, false);
  if (parsed.is_object() && parsed.contains("error") && parsed["error"].is_object() &&
      parsed["error"].contains("message") && parsed["error"]["message"].is_string())
    return parsed["error"]["message"].get<std::string>();
  return answer.body;
}

} // namespace troupe::cli
