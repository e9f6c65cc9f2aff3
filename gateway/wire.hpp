#pragma once
#include <chrono>
#include <memory>
#include <string_view>
#include <utility>

#include <asio/ssl.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <restinio/all.hpp>

/// Internal to server.cpp.
namespace troupe::gateway {

/// A connection's bytes: those of a TCP socket, or of TLS over it once that has begun. Begin TLS
/// where the object stays: its session refers to it. One strand at a time.
class wire {
public:
  using executor_type = asio::ip::tcp::socket::executor_type;

  explicit wire(asio::io_context& io) : tcp_{io} {}
  wire(wire&&) = default;
  wire& operator=(wire&&) = default;

  asio::ip::tcp::socket& tcp() { return tcp_; }
  const asio::ip::tcp::socket& tcp() const { return tcp_; }
  executor_type get_executor() { return tcp_.get_executor(); }

  template <class Buffers, class Handler>
  void async_read_some(const Buffers& into, Handler&& handler) {
    if (tls_)
      tls_->stream.async_read_some(into, std::forward<Handler>(handler));
    else
      tcp_.async_read_some(into, std::forward<Handler>(handler));
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& from, Handler&& handler) {
    if (tls_)
      tls_->stream.async_write_some(from, std::forward<Handler>(handler));
    else
      tcp_.async_write_some(from, std::forward<Handler>(handler));
  }

  /// Calls `done` with what became of it, on `strand`; a client that takes longer than `patience`
  /// is cut off. One that speaks plain HTTP is told so. `alive` holds whoever holds this.
  template <class Strand, class Done>
  void begin_tls(std::shared_ptr<asio::ssl::context> as, const Strand& strand,
                 std::chrono::milliseconds patience, std::shared_ptr<void> alive, Done done) {
    tls_ = std::make_unique<session>(tcp_, std::move(as));
    const auto timer = std::make_shared<asio::steady_timer>(tcp_.get_executor(), patience);
    const auto over = std::make_shared<bool>(false);
    timer->async_wait(asio::bind_executor(strand, [this, alive, over](const asio::error_code&) {
      asio::error_code ignored;
      if (!std::exchange(*over, true))
        tcp_.close(ignored);
    }));
    tls_->stream.async_handshake(
        asio::ssl::stream_base::server,
        asio::bind_executor(strand, [this, alive, over, timer, strand,
                                     done = std::move(done)](const asio::error_code& why) mutable {
          *over = true;
          timer->cancel();
          if (ERR_GET_REASON(static_cast<unsigned long>(why.value())) != SSL_R_HTTP_REQUEST ||
              why.category() != asio::error::get_ssl_category())
            return done(why);
          asio::async_write(tcp_, asio::buffer(wrong_protocol.data(), wrong_protocol.size()),
                            asio::bind_executor(strand, [alive, why, done = std::move(done)](
                                                            const asio::error_code&,
                                                            size_t) mutable { done(why); }));
        }));
  }

private:
  struct session {
    session(asio::ip::tcp::socket& over, std::shared_ptr<asio::ssl::context> as)
        : context{std::move(as)}, stream{over, *context} {}
    std::shared_ptr<asio::ssl::context> context; ///< of when it began
    asio::ssl::stream<asio::ip::tcp::socket&> stream;
  };
  static constexpr std::string_view wrong_protocol =
      "HTTP/1.1 400 Bad Request\r\nserver: troupe\r\nconnection: close\r\n"
      "content-type: application/json\r\ncontent-length: 140\r\n\r\n"
      R"({"error":{"message":"This address speaks HTTPS: write https:// in the URL.",)"
      R"("type":"invalid_request_error","param":null,"code":"wants_tls"}})";

  asio::ip::tcp::socket tcp_;
  std::unique_ptr<session> tls_;
};

} // namespace troupe::gateway
