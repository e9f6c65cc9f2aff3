#include "storage/peers/peer_socket.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "storage/errors.hpp"

namespace troupe::storage {

namespace {

using std::chrono::milliseconds;

std::string reason(int code) {
  return code == EPIPE || code == ECONNRESET ? "the connection was closed"
                                             : std::generic_category().message(code);
}

caf::error failure(const std::string& what) { return caf::make_error(errc::unavailable, what); }

struct free_addresses {
  void operator()(addrinfo* x) const { ::freeaddrinfo(x); }
};
using addresses = std::unique_ptr<addrinfo, free_addresses>;

caf::expected<addresses> resolve(const host_port& where, int flags, int type) {
  addrinfo hints{};
  hints.ai_socktype = type;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const auto port = std::to_string(where.port);
  const auto code = ::getaddrinfo(where.host.empty() ? nullptr : where.host.c_str(), port.c_str(),
                                  &hints, &found);
  if (code != 0)
    return failure(to_string(where) + ": " + ::gai_strerror(code));
  return addresses{found};
}

/// Ends well when the connection stands.
caf::error finish_connecting(int socket, milliseconds timeout, const wake_event& event) {
  std::array<pollfd, 2> fds{{{socket, POLLOUT, 0}, {event.fd(), POLLIN, 0}}};
  const auto ready = ::poll(fds.data(), fds.size(), static_cast<int>(timeout.count()));
  if (ready <= 0)
    return failure("no answer");
  if (fds[1].revents != 0)
    return caf::make_error(errc::cancelled, "connecting was cancelled");
  int code = 0;
  socklen_t size = sizeof code;
  ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &code, &size);
  return code == 0 ? caf::error{} : failure(reason(code));
}

void block(int socket) { ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) & ~O_NONBLOCK); }

} // namespace

descriptor::~descriptor() {
  if (fd_ >= 0)
    ::close(fd_);
}

wake_event::wake_event() : fd_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {}

void wake_event::set() {
  const uint64_t one = 1;
  // Full means that it is set.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

void wake_event::clear() {
  uint64_t count = 0;
  [[maybe_unused]] const auto read = ::read(fd_.get(), &count, sizeof count);
}

readiness wait_for_any(int socket, const wake_event& event, milliseconds timeout) {
  std::array<pollfd, 2> fds{{{socket, POLLIN, 0}, {event.fd(), POLLIN, 0}}};
  const auto most = timeout.count() < 0 ? -1 : static_cast<int>(timeout.count());
  if (::poll(fds.data(), fds.size(), most) <= 0)
    return {};
  return {.socket = fds[0].revents != 0, .event = fds[1].revents != 0};
}

caf::expected<descriptor> connect_to(const host_port& where, milliseconds timeout,
                                     const wake_event& event) {
  const auto found = resolve(where, 0, SOCK_STREAM);
  if (!found)
    return found.error();
  auto why = failure("no address");
  for (const auto* at = found->get(); at != nullptr; at = at->ai_next) {
    descriptor socket{
        ::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol)};
    if (!socket)
      continue;
    why = {};
    if (::connect(socket.get(), at->ai_addr, at->ai_addrlen) != 0)
      why = errno == EINPROGRESS ? finish_connecting(socket.get(), timeout, event)
                                 : failure(reason(errno));
    if (!why) {
      block(socket.get());
      return socket;
    }
    if (why == errc::cancelled)
      break;
  }
  return why;
}

caf::expected<descriptor> listen_at(const host_port& where) {
  const auto found = resolve(where, AI_PASSIVE, SOCK_STREAM);
  if (!found)
    return found.error();
  auto why = failure("no address");
  for (const auto* at = found->get(); at != nullptr; at = at->ai_next) {
    descriptor socket{::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, at->ai_protocol)};
    const int yes = 1;
    if (socket && ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        ::bind(socket.get(), at->ai_addr, at->ai_addrlen) == 0 &&
        ::listen(socket.get(), SOMAXCONN) == 0)
      return socket;
    why = failure("listening at " + to_string(where) + ": " + reason(errno));
  }
  return why;
}

namespace {

/// Host and port that a socket is bound to.
host_port name_of(int socket) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&name), size, host.data(), host.size(), port.data(),
                    port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return {};
  return {host.data(), static_cast<uint16_t>(std::atoi(port.data()))};
}

} // namespace

uint16_t port_of(int socket) { return name_of(socket).port; }

std::string own_address_towards(const host_port& where) {
  const auto found = resolve(where, 0, SOCK_DGRAM);
  if (!found)
    return {};
  for (const auto* at = found->get(); at != nullptr; at = at->ai_next) {
    // Connecting a datagram socket sends nothing: it only looks for the way.
    const descriptor socket{::socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    if (socket && ::connect(socket.get(), at->ai_addr, at->ai_addrlen) == 0)
      return name_of(socket.get()).host;
  }
  return {};
}

void prepare(int socket, milliseconds send_timeout) {
  const int yes = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  const timeval most{send_timeout.count() / 1000, send_timeout.count() % 1000 * 1000};
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
}

caf::error send_all(int socket, std::span<const std::byte> head, std::span<const std::byte> tail) {
  while (!head.empty() || !tail.empty()) {
    // sendmsg does not write to what it sends.
    std::array<iovec, 2> parts{{{const_cast<std::byte*>(head.data()), head.size()},
                                {const_cast<std::byte*>(tail.data()), tail.size()}}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const auto sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0)
      return failure(errno == EAGAIN ? "it takes no more bytes" : reason(errno));
    const auto of_head = std::min(static_cast<size_t>(sent), head.size());
    head = head.subspan(of_head);
    tail = tail.subspan(static_cast<size_t>(sent) - of_head);
  }
  return {};
}

caf::error send_file(int socket, int file, uint64_t offset, uint64_t length) {
  auto at = static_cast<off_t>(offset);
  while (length > 0) {
    const auto sent = ::sendfile(socket, file, &at, length);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0)
      return failure(errno == EAGAIN ? "it takes no more bytes" : reason(errno));
    if (sent == 0)
      return failure("the file has become shorter");
    length -= static_cast<uint64_t>(sent);
  }
  return {};
}

caf::error receive_all(int socket, std::span<std::byte> into, milliseconds stall) {
  while (!into.empty()) {
    const auto got = ::recv(socket, into.data(), into.size(), MSG_DONTWAIT);
    if (got > 0) {
      into = into.subspan(static_cast<size_t>(got));
      continue;
    }
    if (got == 0)
      return failure("the connection was closed");
    if (errno == EINTR)
      continue;
    if (errno != EAGAIN)
      return failure(reason(errno));
    pollfd one{socket, POLLIN, 0};
    if (::poll(&one, 1, static_cast<int>(stall.count())) == 0)
      return failure("nothing came for " + std::to_string(stall.count()) + " ms");
  }
  return {};
}

} // namespace troupe::storage
