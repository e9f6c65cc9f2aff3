#pragma once
#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "gateway/api_error.hpp"
#include "gateway/connection_link.hpp"
#include "gateway/wire.hpp"

/// Internal to server.cpp.
namespace troupe::gateway {

/// Stands between a connection's socket and RESTinio's reading of it. Bytes pass unchanged while
/// they are sound HTTP within the limits. What is not is answered here with its 4xx, after the
/// responses to the requests before it, for RESTinio would close without a word.
///
/// A read is outstanding as long as RESTinio's pipeline has room, so a client that closes is
/// noticed at once, also while its request is being computed. Closing only the sending side looks
/// the same on the wire and counts as leaving.
class read_filter : public std::enable_shared_from_this<read_filter> {
public:
  using callback = std::function<void(const asio::error_code&, size_t)>;

private:
  template <class F>
  auto on_strand(F&& f) {
    return asio::bind_executor(link_->strand, std::forward<F>(f));
  }

public:
  read_filter(wire& socket, std::shared_ptr<connection_link> link, wire_limits limits,
              std::function<void(int)> on_refused)
      : socket_{socket}, link_{std::move(link)}, guard_{limits}, on_refused_{
                                                                     std::move(on_refused)} {}

  /// Refuses the whole connection before a byte is read, or closes it without even that.
  void refuse_all(wire_guard::verdict why, bool silently) {
    verdict_ = std::move(why);
    silent_ = silently;
  }

  void read(asio::mutable_buffer into, callback then) {
    if (verdict_.status != 0)
      // Posted, for a connection's first read is not started on its strand.
      return asio::post(link_->strand,
                        [self = shared_from_this(), then = std::move(then)]() mutable {
                          self->silent_ ? then(asio::error::eof, 0) : self->refuse(std::move(then));
                        });
    socket_.async_read_some(
        into, on_strand([self = shared_from_this(), into,
                         then = std::move(then)](const asio::error_code& why, size_t size) mutable {
          self->after_read(why, static_cast<const char*>(into.data()), size, std::move(then));
        }));
  }

private:
  void after_read(asio::error_code why, const char* data, size_t size, callback then) {
    if (why == asio::ssl::error::stream_truncated)
      why = asio::error::eof; // TCP ended without TLS having said so: HTTP knows what is whole
    if (why == asio::error::eof) {
      verdict_ = guard_.end();
      return verdict_.status != 0 && link_->unanswered() == 0 ? refuse(std::move(then))
                                                              : then(why, 0);
    }
    if (why)
      return then(why, 0);
    const bool was_idle = link_->unanswered() == 0;
    auto verdict = guard_.feed(data, size);
    for (const auto& message : verdict.completed)
      link_->announced.push_back(message);
    if (verdict.status != 0) {
      const auto pass = verdict.pass;
      verdict_ = std::move(verdict);
      return pass > 0 ? then({}, pass) : refuse(std::move(then));
    }
    if (verdict.expects_continue && was_idle)
      return send_continue(size, std::move(then));
    then({}, size);
  }

  void send_continue(size_t size, callback then) {
    static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(
        socket_, asio::buffer(go_on.data(), go_on.size()),
        on_strand([then = std::move(then), size](const asio::error_code& why, size_t) {
          then(why, why ? 0 : size);
        }));
  }

  void refuse(callback then) {
    if (link_->unanswered() > 0) {
      // Earlier requests first; meanwhile notice if the client leaves.
      link_->on_idle = [weak = weak_from_this()] {
        if (const auto self = weak.lock(); self && self->parked_)
          self->write_refusal();
      };
      parked_ = std::move(then);
      return discard();
    }
    parked_ = std::move(then);
    write_refusal();
    discard();
  }

  void write_refusal() {
    api_error error{verdict_.status, verdict_.text, "invalid_request_error", "", verdict_.code, {}};
    if (error.status >= 500) {
      error.type = "server_error";
      error.retry_after = std::chrono::seconds{1};
    }
    on_refused_(error.status);
    const auto response = error_response(error);
    text_ = "HTTP/1.1 " + std::to_string(error.status) + " ";
    text_ += reason_phrase(error.status);
    text_ += "\r\nserver: troupe\r\nconnection: close\r\nx-request-id: " + make_request_id({}) +
             "\r\ncontent-type: application/json\r\ncontent-length: " +
             std::to_string(response.body.size()) + "\r\n";
    for (const auto& [name, value] : response.headers)
      text_ += name + ": " + value + "\r\n";
    text_ += "\r\n" + response.body;
    asio::async_write(socket_, asio::buffer(text_),
                      on_strand([self = shared_from_this()](const asio::error_code& why, size_t) {
                        self->after_refusal(why);
                      }));
  }

  /// Closing while the client still sends would reset the connection and could take the answer
  /// with it: say that nothing more comes, and let the client finish for a moment.
  void after_refusal(const asio::error_code& why) {
    if (why)
      return done(why);
    asio::error_code ignored;
    socket_.tcp().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    if (saw_end_)
      return done(asio::error::eof);
    linger_ = std::make_unique<asio::steady_timer>(socket_.get_executor(), std::chrono::seconds{2});
    linger_->async_wait(on_strand([self = shared_from_this()](const asio::error_code& stopped) {
      if (!stopped)
        self->done(asio::error::eof);
    }));
  }

  void discard() {
    if (saw_end_)
      return;
    socket_.async_read_some(
        asio::buffer(waste_),
        on_strand([self = shared_from_this()](const asio::error_code& why, size_t size) {
          self->after_discard(why, size);
        }));
  }

  void after_discard(const asio::error_code& why, size_t size) {
    constexpr uint64_t discarded_max = 64u << 20;
    discarded_ += size;
    if (!why && discarded_ < discarded_max)
      return parked_ ? discard() : void();
    saw_end_ = true;
    // Before the refusal is out this is a client that left; afterwards, one that has read it.
    if (linger_ || link_->unanswered() > 0 || why != asio::error::eof)
      done(why ? why : asio::error_code{asio::error::eof});
  }

  void done(const asio::error_code& why) {
    if (linger_)
      linger_->cancel();
    if (auto then = std::exchange(parked_, {}))
      then(why, 0);
  }

  wire& socket_;
  std::shared_ptr<connection_link> link_;
  wire_guard guard_;
  wire_guard::verdict verdict_;
  std::function<void(int)> on_refused_;
  callback parked_;
  std::string text_;
  std::unique_ptr<asio::steady_timer> linger_;
  std::array<char, 4096> waste_;
  uint64_t discarded_ = 0;
  bool saw_end_ = false;
  bool silent_ = false;
};

/// The socket type that RESTinio is given: a wire whose reads go through a read_filter.
class guarded_socket {
public:
  using executor_type = restinio::default_asio_executor;
  using lowest_layer_type = asio::ip::tcp::socket::lowest_layer_type;

  explicit guarded_socket(asio::io_context& io) : io_{&io}, wire_{io} {}
  guarded_socket(guarded_socket&&) = default;
  guarded_socket& operator=(guarded_socket&&) = default;

  asio::io_context& io() { return *io_; }
  gateway::wire& wire() { return wire_; }
  /// Once the socket has come to where it stays.
  void filter_reads(std::shared_ptr<read_filter> filter) { filter_ = std::move(filter); }

  auto& lowest_layer() { return wire_.tcp().lowest_layer(); }
  auto get_executor() { return wire_.tcp().get_executor(); }
  bool is_open() const { return wire_.tcp().is_open(); }
  template <class... Args>
  void cancel(Args&&... args) {
    wire_.tcp().cancel(std::forward<Args>(args)...);
  }
  template <class... Args>
  void shutdown(Args&&... args) {
    wire_.tcp().shutdown(std::forward<Args>(args)...);
  }
  template <class... Args>
  void close(Args&&... args) {
    wire_.tcp().close(std::forward<Args>(args)...);
  }
  template <class Buffer, class Handler>
  void async_read_some(const Buffer& into, Handler handler) {
    filter_->read(asio::mutable_buffer(into), std::move(handler));
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& from, Handler&& handler) {
    wire_.async_write_some(from, std::forward<Handler>(handler));
  }

private:
  asio::io_context* io_;
  gateway::wire wire_;
  std::shared_ptr<read_filter> filter_;
};

} // namespace troupe::gateway
