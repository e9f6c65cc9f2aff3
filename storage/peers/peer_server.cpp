#include "storage/peers/peer_server.hpp"

#include <algorithm>
#include <deque>
#include <utility>

#include <sys/socket.h>

#include "storage/errors.hpp"
#include "storage/peers/receive_message.hpp"

namespace troupe::storage {

namespace {

using std::chrono::milliseconds;
using clock = std::chrono::steady_clock;

/// Requests of one connection that wait for what has not come yet.
constexpr size_t waiting_max = 1024;
/// Limited senders send pieces of this size.
constexpr uint64_t paced_bytes = 64u << 10;

peer_answer refusal(uint64_t number, const caf::error& why) {
  const auto code =
      why.category() == caf::atom("storage") ? why.code() : static_cast<uint8_t>(errc::unavailable);
  return {.number = number, .error_code = code, .error = describe(why)};
}

} // namespace

void send_pacer::wait(uint64_t bytes) {
  if (!is_limited())
    return;
  clock::time_point mine;
  {
    const std::lock_guard guard{mutex_};
    mine = std::max(free_at_, clock::now());
    free_at_ = mine + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(
                          static_cast<double>(bytes) / static_cast<double>(bytes_per_second_)));
  }
  std::this_thread::sleep_until(mine);
}

/// One peer that asks. Requests are answered in their order, but for those that wait for chunks
/// which are still on their way.
class peer_server::connection {
public:
  connection(peer_server& server, descriptor socket) : server_{server}, socket_{std::move(socket)} {
    subscription_ = server_.models_->subscribe([this] { event_.set(); });
  }
  ~connection() { server_.models_->unsubscribe(subscription_); }

  void run() {
    prepare(socket_.get(), server_.options_.send_timeout);
    const auto hello = frame(peer_hello{.node = server_.options_.node});
    peer_hello theirs;
    auto why = send_all(socket_.get(), std::as_bytes(std::span{hello}));
    if (!why)
      why = receive(theirs);
    if (theirs.protocol != peer_protocol) // it has our hello, and will say so
      why = caf::make_error(errc::unsupported, "another version");
    while (!why)
      why = step();
    ::shutdown(socket_.get(), SHUT_RDWR);
    over_ = true;
  }
  void stop() { ::shutdown(socket_.get(), SHUT_RDWR); }
  bool is_over() const { return over_; }

private:
  struct waiting {
    peer_request request;
    clock::time_point began;
  };

  template <class Message>
  caf::error receive(Message& x) {
    // Nothing is expected of a peer but that it ends what it began.
    return receive_message(socket_.get(), peer_request_bytes_max, server_.options_.send_timeout, x);
  }

  caf::error step() {
    const bool waits = !waiting_.empty();
    const auto ready =
        wait_for_any(socket_.get(), event_, waits ? server_.options_.heartbeat : milliseconds{-1});
    if (ready.event)
      event_.clear();
    if (waits)
      if (auto why = look_again(!ready.socket && !ready.event))
        return why;
    if (!ready.socket)
      return {};
    peer_request request;
    if (auto why = receive(request))
      return why;
    if (request.call == peer_call::list)
      return list(request);
    if (waiting_.size() >= waiting_max)
      return send(refusal(request.number,
                          caf::make_error(errc::unavailable, "too many requests wait there")));
    waiting_.push_back({std::move(request), clock::now()});
    return try_last();
  }

  caf::error list(const peer_request& request) {
    auto files = server_.models_->list(request.model);
    if (!files)
      return send(refusal(request.number, files.error()));
    return send({.number = request.number, .files = std::move(*files)});
  }

  caf::error try_last() {
    auto one = std::move(waiting_.back());
    waiting_.pop_back();
    return answer(std::move(one));
  }

  caf::error look_again(bool heartbeat) {
    std::deque<waiting> all;
    all.swap(waiting_);
    for (auto& one : all) {
      if (heartbeat)
        if (auto why = send({.number = one.request.number, .pending = true}))
          return why;
      if (auto why = answer(std::move(one)))
        return why;
    }
    return {};
  }

  /// Sends the bytes, or keeps the request for later.
  caf::error answer(waiting one) {
    auto part = server_.models_->read(one.request);
    if (part && *part)
      return send(one.request, **part);
    const bool may_come =
        !part && clock::now() - one.began < milliseconds{one.request.patience_ms} &&
        (part.error() == errc::not_yet ||
         (part.error() == errc::not_found && !server_.models_->knows(one.request.model)));
    if (!part && !may_come)
      return send(refusal(one.request.number, part.error()));
    waiting_.push_back(std::move(one));
    return {};
  }

  caf::error send(const peer_answer& x) {
    const auto bytes = frame(x);
    return send_all(socket_.get(), std::as_bytes(std::span{bytes}));
  }

  caf::error send(const peer_request& request, const shared_part& part) {
    const auto head = frame(
        peer_answer{.number = request.number, .payload_bytes = request.length, .sum = part.sum});
    const auto first = std::as_bytes(std::span{head});
    auto& pacer = server_.pacer_;
    caf::error why;
    if (part.file || pacer.is_limited())
      why = send_all(socket_.get(), first);
    else
      why = send_all(socket_.get(), first, part.bytes);
    const auto step = pacer.is_limited() ? paced_bytes : uint64_t{request.length};
    for (uint64_t at = 0; !why && at < request.length && (part.file || pacer.is_limited());
         at += step) {
      const auto length = std::min<uint64_t>(step, request.length - at);
      pacer.wait(length);
      why = part.file
                ? send_file(socket_.get(), part.file->buffered_fd(), request.offset + at, length)
                : send_all(socket_.get(), part.bytes.subspan(at, length));
    }
    if (why)
      return why;
    server_.sent_ += request.length;
    if (server_.options_.on_sent)
      server_.options_.on_sent(request.length);
    return {};
  }

  peer_server& server_;
  descriptor socket_;
  wake_event event_;
  uint64_t subscription_ = 0;
  std::deque<waiting> waiting_;
  std::atomic<bool> over_{false};
};

caf::expected<std::unique_ptr<peer_server>>
peer_server::start(peer_server_options options, std::shared_ptr<shared_models> models) {
  auto listening = listen_at(options.listen);
  if (!listening)
    return listening.error();
  return std::unique_ptr<peer_server>{
      new peer_server{std::move(options), std::move(models), std::move(*listening)}};
}

peer_server::peer_server(peer_server_options options, std::shared_ptr<shared_models> models,
                         descriptor listening)
    : options_{std::move(options)}, models_{std::move(models)}, listening_{std::move(listening)},
      port_{port_of(listening_.get())}, pacer_{options_.bytes_per_second} {
  accepting_ = std::thread{[this] { accept_all(); }};
}

peer_server::~peer_server() {
  stopping_ = true;
  stop_.set();
  accepting_.join();
  for (auto& one : guests_)
    one.what->stop();
  for (auto& one : guests_)
    one.thread.join();
}

void peer_server::take_leave() {
  guests_.remove_if([](guest& one) {
    if (!one.what->is_over())
      return false;
    one.thread.join();
    return true;
  });
}

void peer_server::accept_all() {
  while (!stopping_) {
    if (!wait_for_any(listening_.get(), stop_, milliseconds{-1}).socket)
      continue;
    descriptor socket{::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    take_leave();
    if (!socket) // out of descriptors: whoever leaves gives one back
      wait_for_any(-1, stop_, milliseconds{100});
    if (!socket || guests_.size() >= options_.connections_max)
      continue;
    auto fresh = std::make_shared<connection>(*this, std::move(socket));
    guests_.push_back({fresh, std::thread{[fresh] { fresh->run(); }}});
  }
}

} // namespace troupe::storage
