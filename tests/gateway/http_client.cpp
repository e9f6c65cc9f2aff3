#include "http_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace troupe::gateway::test {

http_client::http_client(uint16_t port, int receive_buffer) {
  socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
  if (receive_buffer > 0)
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  const timeval patience{20, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const int on = 1; // pieces leave as they are sent
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
    close();
}

http_client::http_client(http_client&& other) noexcept
    : socket_{std::exchange(other.socket_, -1)}, buffer_{std::move(other.buffer_)} {}

http_client::~http_client() { close(); }

void http_client::close() {
  if (socket_ >= 0)
    ::close(std::exchange(socket_, -1));
}

void http_client::finish_sending() { ::shutdown(socket_, SHUT_WR); }

bool http_client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0)
      return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool http_client::fill() {
  char bytes[16384];
  const auto count = socket_ < 0 ? 0 : ::recv(socket_, bytes, sizeof bytes, 0);
  if (count <= 0)
    return false;
  buffer_.append(bytes, static_cast<size_t>(count));
  return true;
}

std::string http_client::take(size_t count) {
  while (buffer_.size() < count)
    if (!fill())
      break;
  auto out = buffer_.substr(0, count);
  buffer_.erase(0, count);
  return out;
}

std::string http_client::read_until(std::string_view text) {
  size_t from = 0;
  while (true) {
    const auto at = buffer_.find(text, from);
    if (at != std::string::npos)
      return take(at + text.size());
    from = buffer_.size() < text.size() ? 0 : buffer_.size() - text.size();
    if (!fill())
      return std::exchange(buffer_, {});
  }
}

bool http_client::closed() { return buffer_.empty() && !fill(); }

reply http_client::read_head() {
  reply out;
  auto head = read_until("\r\n\r\n");
  if (!head.ends_with("\r\n\r\n") || !head.starts_with("HTTP/1.1 "))
    return out;
  out.status = std::atoi(head.c_str() + 9);
  size_t at = head.find("\r\n") + 2;
  while (at + 2 < head.size()) {
    const auto end = head.find("\r\n", at);
    const auto colon = head.find(": ", at);
    auto name = head.substr(at, colon - at);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    out.headers[name] = head.substr(colon + 2, end - colon - 2);
    at = end + 2;
  }
  return out;
}

reply http_client::read_reply(bool head) {
  auto out = read_head();
  if (out.status == 0 || head || out.status == 204)
    return out;
  if (const auto length = out.headers.find("content-length"); length != out.headers.end()) {
    const auto size = std::strtoull(length->second.c_str(), nullptr, 10);
    out.body = take(size);
    if (out.body.size() < size)
      out.status = 0;
    return out;
  }
  if (!out.headers.contains("transfer-encoding")) {
    while (fill()) {
    }
    out.body = std::exchange(buffer_, {});
    return out;
  }
  while (true) {
    const auto line = read_until("\r\n");
    if (!line.ends_with("\r\n")) {
      out.status = 0; // cut off
      return out;
    }
    const auto size = std::strtoull(line.c_str(), nullptr, 16);
    out.body += take(size);
    take(2);
    if (size == 0)
      return out;
  }
}

std::string format_post(const std::string& path, const std::string& body,
                        const std::string& headers) {
  return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

reply http_client::get(const std::string& path, const std::string& headers) {
  send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
  return read_reply();
}

reply http_client::post(const std::string& path, const std::string& body,
                        const std::string& headers) {
  send(format_post(path, body, headers));
  return read_reply();
}

} // namespace troupe::gateway::test
